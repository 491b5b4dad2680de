"""FashionBERT: an encoder over text and image patches that learns to match them and to restore what is masked.

Gao et al. 2020, "FashionBERT: Text and Image Matching with Adaptive Loss for Cross-modal Retrieval", and the authors'
release. Shape suffixes: B requests, S candidates, I distinct items, N text-image pairs, T text tokens, P patches, L
tokens of a pair, H items of the history, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.batch import Batch, ContentBatch
from trainer.runtime.models.layers.alignment import alignment_pairs, some_complete
from trainer.runtime.models.layers.encoder import EncoderBlock
from trainer.runtime.models.layers.fields import task_of
from trainer.runtime.models.layers.item_tokens import ItemTokens
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.memory import Memory
from trainer.runtime.models.layers.mlp import MLP
from trainer.runtime.models.layers.packing import back, groups
from trainer.runtime.models.layers.tokens_recipe import TokensRecipe
from trainer.runtime.models.ranges import Share, Size
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.schema import Schema, Space

ALIGNMENT = ("ita", "tia")


@dataclass(frozen=True)
class FashionBERTRecipe(TokensRecipe):
    """Configuration of FashionBERT; its ranking head reads the mean of the history's items.

    Args:
        layers: Encoder blocks.
        masked: Share of text tokens and of patches that are masked in training.
        pairs: Items of a batch that matching and restoring are trained on, at most.
        adaptive: Weigh the three losses by the authors' rule; else by a third each.
        detach_weights: Keep gradients out of the adaptive weights; the authors' release lets them through.
        field_width: Width of the embeddings of user, context, item and cross fields.
        hidden: Hidden widths of the ranking head.
    """

    layers: Size = 2
    masked: Share = 0.15
    pairs: Size = 64
    adaptive: bool = True
    detach_weights: bool = False
    field_width: Size = 16
    hidden: tuple[Size, ...] = (128, 64)


def adaptive_weights(losses_K: Tensor) -> Tensor:
    """Weights of K task losses: w_i ∝ Π_{j≠i} (K − g_j), g = softmax(L)², summing to one.

    Example:
        >>> adaptive_weights(torch.zeros(3))
        tensor([0.3333, 0.3333, 0.3333])
    """
    k = len(losses_K)
    rest_K = k - losses_K.softmax(dim=0).square()
    others_KK = rest_K.expand(k, k).masked_fill(torch.eye(k, dtype=torch.bool, device=rest_K.device), 1.0)
    product_K = others_KK.prod(dim=1)
    return product_K / product_K.sum()


class FashionBERT(RankingModel):
    """Matches texts with images, restores masked tokens and patches, and ranks with the items' [CLS].

    The paper's model has no ranking task. Here a perceptron reads the candidate's pooled [CLS], the mean of those of
    the history, their product, and the other fields; its loss is added to the weighted sum of the paper's three.
    `forward` gives `ita` and `tia`, one logit under both names since matching is one head; 0 where text or image is
    missing.

    Args:
        schema: What the data have, text and image among them.
        recipe: Configuration.
    """

    Recipe = FashionBERTRecipe
    recipe: FashionBERTRecipe

    def __init__(self, schema: Schema, recipe: FashionBERTRecipe) -> None:
        super().__init__(schema, recipe)
        r = recipe
        self.task = task_of(schema, r.task)
        if schema.content is None:
            raise RecipeError(
                "needs text and image", field="model", value="fashionbert", remedy="use a model of fields"
            )
        self.items = ItemTokens(schema.content, r.width)
        self.text_mask_token = nn.Parameter(torch.randn(schema.content.text_width) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(r.width, r.heads, r.feed_forward, r.dropout) for _ in range(r.layers))
        self.pooler = nn.Sequential(nn.Linear(r.width, r.width), nn.Tanh())
        self.match = nn.Linear(r.width, 1)
        self.memory = Memory()
        self.restore_text = nn.Linear(r.width, schema.content.text_width)
        self.restore_image = nn.Linear(r.width, schema.content.image_width)
        self.history = schema.sequence(r.sequence) if r.history_items > 0 else None
        self.fields = [f.name for f in schema.features]
        views = 3 if self.history else 1
        self.rank = MLP(views * r.width + r.field_width * len(self.fields), r.hidden, output=1)

    @classmethod
    def spaces(cls, schema: Schema, recipe: FashionBERTRecipe) -> tuple[Space, ...]:
        """One space for the fields of user, context, candidate and crosses."""
        names = tuple(f.name for f in schema.features)
        return (Space("main", recipe.field_width, names, recipe.init_std),) if names else ()

    @classmethod
    def reads(cls, schema: Schema, recipe: FashionBERTRecipe) -> Schema:
        """One history, as long as is read of it, with its tokens alone."""
        history = schema.sequence(recipe.sequence) if recipe.history_items > 0 else None
        if history is not None:
            history = replace(history, length=min(history.length, recipe.history_items), features=())
        return replace(super().reads(schema, recipe), sequences=(history,) if history is not None else ())

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Score candidates: the ranking task, and the match of their own text and image as `ita` and `tia`."""
        pooled_ID = self._pooled(batch)
        content = _content(batch)
        pooled_SD = pooled_ID[content.candidate_S]
        match_S = self.match(pooled_SD)[:, 0]
        known_S = (content.text_mask_IT.any(dim=1) & content.image_mask_I)[content.candidate_S]
        match_S = match_S.where(known_S, torch.zeros_like(match_S))
        return {self.task: self._rank(batch, pooled_ID), "ita": match_S, "tia": match_S}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The ranking task's cross-entropy, and the weighted `text`, `alignment` and `image` losses of the paper."""
        logits_S = self._rank(batch, self._pooled(batch))
        losses = {self.task: functional.binary_cross_entropy_with_logits(logits_S, batch.labels_S[self.task])}
        content = _content(batch)
        return losses | self.alignment_losses(content, some_complete(content, self.recipe.pairs))

    def alignment_losses(self, content: ContentBatch, items: Tensor) -> dict[str, Tensor]:
        """The weighted `text`, `alignment` and `image` losses on the items' own pairs and as many false ones."""
        pairs = alignment_pairs(content, items)["ita"]  # matching is one task: the kinds of false pairs do not differ
        if not len(pairs.label_N):
            return {}
        found = self._pretrain(content, pairs.text_N, pairs.image_N, pairs.label_N)
        stacked_K = torch.stack(list(found.values()))
        weights_K = torch.full_like(stacked_K, 1.0 / len(found))
        if self.recipe.adaptive:
            weights_K = adaptive_weights(stacked_K.detach() if self.recipe.detach_weights else stacked_K)
        return dict(zip(found, (weights_K * stacked_K).unbind(), strict=True))

    def align(
        self, content: ContentBatch, text_N: Tensor, image_N: Tensor, tasks: tuple[str, ...] = ALIGNMENT
    ) -> dict[str, Tensor]:
        """Whether texts and images belong together: one logit [N] under the name of each task."""
        logits_N = self.match(self._pooled_pairs(content, text_N, image_N))[:, 0]
        return dict.fromkeys(tasks, logits_N)

    def modality_vectors(self, content: ContentBatch) -> tuple[Tensor, Tensor]:
        """Each modality alone through the encoder, mean-pooled: text [I, D] and image [I, D]."""
        found = self.items.embed(content, "tokens")
        text, image = found.text_ITD, found.image_IPD
        for block in self.blocks:
            text, image = block(text, found.text_mask_IT), block(image, found.image_mask_IP)
        return masked_mean(text, found.text_mask_IT), masked_mean(image, found.image_mask_IP)

    def _encode(self, content: ContentBatch, text_N: Tensor, image_N: Tensor) -> tuple[Tensor, slice, slice]:
        """All tokens, encoded, and where text and image lie among them."""
        found = self.items.embed(content, "tokens")
        tokens_NLD, mask_NL, text, image = self.items.together(found, text_N, image_N)
        for block in self.blocks:
            tokens_NLD = block(tokens_NLD, mask_NL)
        return tokens_NLD, text, image

    def _pooled(self, batch: Batch) -> Tensor:
        """Pooled [CLS] of the distinct items, each with its own text and image, [I, D]."""
        pooled_ID: Tensor = self.memory(_content(batch), self._pool)
        return pooled_ID

    def _pool(self, content: ContentBatch) -> Tensor:
        every_I = torch.arange(len(content.image_mask_I), device=content.image_mask_I.device)
        return self._pooled_pairs(content, every_I, every_I)

    def _pooled_pairs(self, content: ContentBatch, text_N: Tensor, image_N: Tensor) -> Tensor:
        """Pooled [CLS] of texts and images put together, [N, D]: the last block computes nothing else."""
        embedded = self.items.embed(content, "tokens")
        tokens_NLD, mask_NL, _, _ = self.items.together(embedded, text_N, image_N)
        found, parts = groups(mask_NL), []
        *early, last = self.blocks
        for group in found:
            x_RKD = group.of(tokens_NLD)
            for block in early:
                x_RKD = block(x_RKD, group.mask_RK)
            parts.append(last(x_RKD, group.mask_RK, first=1)[:, 0])
        pooled_ND: Tensor = self.pooler(back(parts, found))
        return pooled_ND

    def _rank(self, batch: Batch, pooled_ID: Tensor) -> Tensor:
        content = _content(batch)
        parts = [pooled_ID[content.candidate_S]]
        if self.history:
            mask_BH = batch.masks_BL[self.history.name][:, -self.recipe.history_items :]
            item_BH = content.history_BL[self.history.name][:, -self.recipe.history_items :].masked_fill(~mask_BH, 0)
            history_SD = batch.to_candidates(masked_mean(pooled_ID[item_BH], mask_BH))
            parts += [history_SD, history_SD * parts[0]]
        parts += [batch.of("main", name) for name in self.fields]
        logits_S1: Tensor = self.rank(torch.cat(parts, dim=1))
        return logits_S1[:, 0]

    def _pretrain(self, content: ContentBatch, text_N: Tensor, image_N: Tensor, label_N: Tensor) -> dict[str, Tensor]:
        """The paper's three losses. Pairs of both labels are masked alike; only true ones are restored."""
        text_NTD, text_mask_NT = content.text_ITD[text_N], content.text_mask_IT[text_N]
        image_NPD = content.image_IPD[image_N]
        hide_NT = (torch.rand(text_mask_NT.shape, device=label_N.device) < self.recipe.masked) & text_mask_NT
        hide_NP = torch.rand(image_NPD.shape[:2], device=label_N.device) < self.recipe.masked
        pairs = replace(
            content,
            text_ITD=torch.where(hide_NT[..., None], self.text_mask_token, text_NTD),
            text_mask_IT=text_mask_NT,
            image_IPD=image_NPD.masked_fill(hide_NP[..., None], 0.0),
            image_mask_I=content.image_mask_I[image_N],
        )
        every_N = torch.arange(len(label_N), device=label_N.device)
        tokens_NLD, text, image = self._encode(pairs, every_N, every_N)
        logits_N = self.match(self.pooler(tokens_NLD[:, 0]))[:, 0]
        used = text.stop - text.start
        true_N1 = label_N[:, None] > 0.5
        return {
            "text": _restored(self.restore_text(tokens_NLD[:, text]), text_NTD[:, :used], hide_NT[:, :used] & true_N1),
            "alignment": functional.binary_cross_entropy_with_logits(logits_N, label_N),
            "image": _restored(self.restore_image(tokens_NLD[:, image]), image_NPD, hide_NP & true_N1),
        }


def _restored(guess_NLD: Tensor, truth_NLD: Tensor, hidden_NL: Tensor) -> Tensor:
    """KL divergence of the softmax of the guess from that of the truth, mean over hidden tokens; 0 where none is."""
    log_guess, log_truth = guess_NLD.log_softmax(dim=-1), truth_NLD.log_softmax(dim=-1)
    each_NL = functional.kl_div(log_guess, log_truth, reduction="none", log_target=True).sum(dim=-1)
    return (each_NL * hidden_NL).sum() / hidden_NL.sum().clamp(min=1)


def _content(batch: Batch) -> ContentBatch:
    assert batch.content is not None
    return batch.content
