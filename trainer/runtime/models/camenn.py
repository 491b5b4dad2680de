"""CameNN: conversion rate from text, image, user and context, with text-image alignment as two further tasks.

Alibaba 2020, "Cross-modal Alignment with mixture experts Neural Network for intral-city retail recommendation".
Equations are the paper's. Shape suffixes: B requests, S candidates, I distinct items, N text-image pairs, H items of
the history, L tokens of an item, U tokens of the user's side, D width of tokens (n_E).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.batch import Batch, ContentBatch
from trainer.runtime.models.layers.alignment import alignment_pairs, first_place, some_complete
from trainer.runtime.models.layers.encoder import EncoderBlock
from trainer.runtime.models.layers.fields import task_of
from trainer.runtime.models.layers.item_tokens import Form, ItemTokens, vectors
from trainer.runtime.models.layers.lstm_frame import LstmFrame
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.layers.memory import Memory
from trainer.runtime.models.layers.mixture import TransformerFrame
from trainer.runtime.models.layers.relu_frame import ReluFrame
from trainer.runtime.models.layers.tokens import InputTokens
from trainer.runtime.models.layers.tokens_recipe import TokensRecipe
from trainer.runtime.models.ranges import Size, Weight
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.schema import Schema, Space

ALIGNMENT = ("ita", "tia")


@dataclass(frozen=True)
class CameNNRecipe(TokensRecipe):
    """Configuration of CameNN; `width` is its n_E, `history_items` its N.

    Args:
        experts: Experts (M).
        top_k: Experts that a gate keeps.
        attention: `joint` is the paper: one sequence a candidate. `prefix` encodes the user's side once a request.
        frame: What shared bottom, experts and towers are; the others are the paper's Table 4, and joint.
        history: Form of its items: all tokens (the paper), cls with the means of both modalities, or one token.
        history_fields: Add the embedded fields of a history's item, such as category and time gap, to its [CLS].
        target: Form of the candidate's text and image.
        fields: A token a field, or one a group (user, context, item, cross), the sum of its fields.
        roles: Learned vectors that tell history, slot in the history, target and field apart.
        alignment_context: What alignment sees besides text and image: nothing, or (the paper) all of E_Input.
        alignment_form: Form of text and image in alignment: the candidate's (the paper), or all tokens.
        alignment_weight: Weight of both alignment losses in the sum; 0 leaves them out.
        alignment_pairs: Items of a batch that alignment is trained on, at most.
        init_std: Standard deviation of initial embeddings.
    """

    experts: Size = 4
    top_k: Size = 2
    attention: Literal["joint", "prefix"] = "prefix"
    frame: Literal["transformer", "mmoe", "mose"] = "transformer"
    history: Literal["tokens", "modalities", "item"] = "modalities"
    history_fields: bool = True
    target: Literal["tokens", "modalities"] = "tokens"
    fields: Literal["tokens", "groups"] = "tokens"
    roles: bool = True
    alignment_context: Literal["masked", "full"] = "masked"
    alignment_form: Literal["target", "tokens"] = "target"
    alignment_weight: Weight = 1.0
    alignment_pairs: Size = 64
    init_std: Weight = 0.02

    def __post_init__(self) -> None:
        """Check ranges, and what goes together."""
        super().__post_init__()
        if self.top_k > self.experts:
            remedy = f"use at most experts, {self.experts}"
            raise RecipeError("more than there are experts", field="top_k", value=self.top_k, remedy=remedy)


class CameNN(RankingModel):
    """Predicts conversion (`cvr`, or the task asked for) and whether an item's text and image belong together.

    `forward` gives `ita` and `tia` for each candidate's own text and image; 0 (no evidence) where one is missing.

    Args:
        schema: What the data have.
        recipe: Configuration.
    """

    Recipe = CameNNRecipe
    recipe: CameNNRecipe

    def __init__(self, schema: Schema, recipe: CameNNRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe.task)
        r, width = recipe, recipe.width
        self.alignment_form: Form = "tokens" if r.alignment_form == "tokens" else r.target
        if r.alignment_context == "full" and self.alignment_form != r.target:
            remedy = 'use alignment_context "masked"'
            raise RecipeError("needs one form", field="alignment_form", value=r.alignment_form, remedy=remedy)
        self.history = schema.sequence(r.sequence) if r.history_items > 0 else None
        self.tasks = (self.task,) + (ALIGNMENT if schema.content is not None else ())
        self.user_fields = [f.name for f in schema.group("user", "context")]
        self.own_fields = [f.name for f in schema.group("item", "cross")]
        self.items = ItemTokens(schema.content, width)
        self.slots = slots = min(r.history_items, self.history.length) if self.history else 0
        if r.roles:
            self.slot = vectors(slots, width)
            self.history_role, self.target_role = vectors(1, width), vectors(1, width)
            self.user_role = vectors(len(self.user_fields), width)
            self.own_role = vectors(len(self.own_fields), width)
        self.frame: TransformerFrame | ReluFrame | LstmFrame
        if r.frame == "transformer":
            with_user = self.tasks if r.alignment_context == "full" else (self.task,)
            prefix = with_user if r.attention == "prefix" else None
            block = partial(EncoderBlock, width, r.heads, r.feed_forward, r.dropout)
            self.frame = TransformerFrame(width, block, r.experts, r.top_k, self.tasks, prefix)
        elif r.frame == "mmoe":
            fields = (len(self._groups(self.user_fields)), len(self._groups(self.own_fields)))
            self.frame = ReluFrame(width, r.feed_forward, r.dropout, r.experts, r.top_k, self.tasks, fields)
        else:
            self.frame = LstmFrame(width, r.dropout, r.experts, r.top_k, self.tasks)
        self.heads = nn.ModuleDict({task: nn.Linear(width, 1) for task in self.tasks})
        self._expert_use: dict[str, Tensor] = {}
        self.memory = Memory()

    @classmethod
    def spaces(cls, schema: Schema, recipe: CameNNRecipe) -> tuple[Space, ...]:
        """One space as wide as the tokens, for fields and for those of the history."""
        names = [f.name for f in schema.features]
        history = schema.sequence(recipe.sequence)
        if history and recipe.history_fields and recipe.history_items > 0:
            names += [f.name for f in history.features]
        return (Space("main", recipe.width, tuple(names), recipe.init_std),)

    @classmethod
    def reads(cls, schema: Schema, recipe: CameNNRecipe) -> Schema:
        """One history, as long as is read of it, with its tokens; of a statistic's two bucketings the coarse one.

        The second one is MARN's idea; here every field is a token, and tokens are what this model's time goes into.
        """
        history = schema.sequence(recipe.sequence) if recipe.history_items > 0 else None
        if history is not None:
            features = history.features if recipe.history_fields else ()
            history = replace(history, length=min(history.length, recipe.history_items), features=features)
        return replace(
            schema,
            features=tuple(f for f in schema.features if not f.name.endswith("@100")),
            sequences=(history,) if history is not None else (),
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Score candidates: the ranking task and, with content, `ita` and `tia` of their own text and image."""
        content = batch.content
        if content is None or len(self.tasks) == 1:
            return self._score(self._input(batch), (self.task,))
        own_S = content.candidate_S
        if self.recipe.alignment_context == "full":
            logits = self._score(self._input(batch), self.tasks)
        else:
            logits = self._score(self._input(batch), (self.task,))
            shown, place_S = torch.unique(own_S, return_inverse=True)
            logits |= {k: v[place_S] for k, v in self._own_alignment(content, shown).items()}
        known_S = (content.text_mask_IT.any(dim=1) & content.image_mask_I)[own_S]
        return {k: v if k == self.task else v.where(known_S, torch.zeros_like(v)) for k, v in logits.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Binary cross-entropies of the tasks; `ita` and `tia` on as many positives as negatives of the batch."""
        logits_S = self._score(self._input(batch), (self.task,))[self.task]
        losses = {self.task: functional.binary_cross_entropy_with_logits(logits_S, batch.labels_S[self.task])}
        content = batch.content
        if content is None or len(self.tasks) == 1 or self.recipe.alignment_weight == 0:
            return losses
        found = self.alignment_losses(content, some_complete(content, self.recipe.alignment_pairs), batch)
        return losses | {task: self.recipe.alignment_weight * loss for task, loss in found.items()}

    def alignment_losses(self, content: ContentBatch, items: Tensor, batch: Batch | None = None) -> dict[str, Tensor]:
        """`ita` and `tia` on the items' own pairs and as many false ones; nothing where none can be made.

        Seen alone, a false pair is one of ITA (the image's text is another's) and one of TIA (the text's image is):
        both tasks read the same pairs, so that the shared bottom runs once. With a context they are drawn apart.
        """
        pairs = alignment_pairs(content, items)
        text_N, image_N, label_N = pairs["ita"].text_N, pairs["ita"].image_N, pairs["ita"].label_N
        if not len(label_N):
            return {}
        if self.recipe.alignment_context == "full" and batch is not None:
            own = {task: (p.text_N, p.image_N, p.label_N) for task, p in pairs.items() if len(p.label_N)}
            logits = {task: self.align(content, *own[task][:2], (task,), batch)[task] for task in own}
            return {task: functional.binary_cross_entropy_with_logits(logits[task], own[task][2]) for task in own}
        both = self.align(content, text_N, image_N)
        return {task: functional.binary_cross_entropy_with_logits(both[task], label_N) for task in ALIGNMENT}

    def align(
        self,
        content: ContentBatch,
        text_N: Tensor,
        image_N: Tensor,
        tasks: tuple[str, ...] = ALIGNMENT,
        batch: Batch | None = None,
    ) -> dict[str, Tensor]:
        """Whether texts and images belong together.

        Args:
            content: Content that holds them.
            text_N: Whose text.
            image_N: Whose image.
            tasks: `ita`, `tia` or both.
            batch: For `alignment_context="full"`: the batch in which each pair stands in for a candidate, that of the
                item whose image (ITA) or text (TIA) it keeps. Without it the pairs are seen alone.

        Returns:
            Task → logits [N].
        """
        logits: dict[str, Tensor] = {}
        if self.recipe.alignment_context == "full" and batch is not None:
            for task in tasks:
                kept_N = image_N if task == "ita" else text_N
                first_I = first_place(content.candidate_S, len(content.image_mask_I))
                logits |= self._score(self._input(batch, first_I[kept_N], text_N, image_N), (task,))
            return logits
        tokens_NLD, mask_NL, text, image = self._target(content, text_N, image_N, self.alignment_form)
        nobody = tokens_NLD.new_zeros(1, 0, self.recipe.width)
        request_N = torch.zeros_like(text_N)
        tokens = InputTokens(nobody, nobody[..., 0].bool(), tokens_NLD, mask_NL, request_N, 0, text, image)
        return self._score(tokens, tasks)

    def _own_alignment(self, content: ContentBatch, items_N: Tensor) -> dict[str, Tensor]:
        """ITA and TIA of items' own text and image, which depend on nothing else."""

        def align(content: ContentBatch) -> Tensor:
            every_I = torch.arange(len(content.image_mask_I), device=content.image_mask_I.device)
            found = self.align(content, every_I, every_I)
            return torch.stack([found[task] for task in ALIGNMENT], dim=1)

        found_N2: Tensor = self.memory(content, align, items_N)
        return dict(zip(ALIGNMENT, found_N2.unbind(dim=1), strict=True))

    def modality_vectors(self, content: ContentBatch) -> tuple[Tensor, Tensor]:
        """Each modality alone through the shared bottom, mean-pooled: text [I, D] and image [I, D] (Figures 4 and 5).

        Raises:
            RecipeError: If the frame is not `transformer`.
        """
        if not isinstance(self.frame, TransformerFrame):
            raise RecipeError("needs encoder blocks", field="frame", value=self.recipe.frame, remedy="use transformer")
        found = self.items.embed(content, self.alignment_form)
        role = self.target_role if self.recipe.roles else 0.0
        text = self.frame.shared(found.text_ITD + role, found.text_mask_IT)
        image = self.frame.shared(found.image_IPD + role, found.image_mask_IP)
        return masked_mean(text, found.text_mask_IT), masked_mean(image, found.image_mask_IP)

    def last_expert_use(self) -> dict[str, Tensor]:
        """Share of the last batch's sequences that chose each expert: [M], summing to k.

        By task: candidates for the ranking task, pairs for the alignment tasks; `<task>_user` for the user's side.
        """
        return dict(self._expert_use)

    def _score(self, tokens: InputTokens, tasks: tuple[str, ...]) -> dict[str, Tensor]:
        read = self.frame(tokens, tasks)
        self._expert_use.update(self.frame.expert_use)
        return {task: self.heads[task](read[task])[:, 0] for task in tasks}

    def _input(
        self, batch: Batch, rows_N: Tensor | None = None, text_N: Tensor | None = None, image_N: Tensor | None = None
    ) -> InputTokens:
        """E_Input (Eq. 3) of all candidates, or of chosen ones with other texts and images in place of their own."""
        embedded, content, r = batch.embedded["main"], batch.content, self.recipe
        request = batch.request_S if rows_N is None else batch.request_S[rows_N]
        if content is not None and self.schema.content is not None:
            texts, images = (content.candidate_S if x_N is None else x_N for x_N in (text_N, image_N))
            target, mask, text, image = self._target(content, texts, images, r.target)
        else:
            target, mask, text, image = self.items.bare(len(request))
            target = target + self.target_role if r.roles else target
        if self.own_fields:
            fields = self._fields(embedded, self.own_fields, self.own_role if r.roles else None)
            fields = fields if rows_N is None else fields[rows_N]
            target = torch.cat([target, fields], dim=1)
            mask = torch.cat([mask, mask.new_ones(fields.shape[:2])], dim=1)
        user, user_mask = self._user(batch)
        return InputTokens(user, user_mask, target, mask, request, len(self._groups(self.user_fields)), text, image)

    def _target(
        self, content: ContentBatch, text_N: Tensor, image_N: Tensor, form: Form
    ) -> tuple[Tensor, Tensor, slice, slice]:
        """Items made of texts and images; those of the batch that none names, such as histories', are not embedded."""
        named, place = torch.unique(torch.cat([text_N, image_N]), return_inverse=True)
        found = self.items.embed(content, form, named)
        tokens, mask, text, image = self.items.together(found, place[: len(text_N)], place[len(text_N) :])
        return (tokens + self.target_role if self.recipe.roles else tokens), mask, text, image

    def _user(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """User and context fields, then the history, oldest first: [B, U, D] and the mask."""
        embedded, width = batch.embedded["main"], self.recipe.width
        parts = [self.items.cls.new_zeros(batch.requests, 0, width)]
        if self.user_fields:
            parts.append(self._fields(embedded, self.user_fields, self.user_role if self.recipe.roles else None))
        masks = [part.new_ones(part.shape[:2], dtype=torch.bool) for part in parts]
        if self.history:
            tokens, mask = self._history(batch, self.history.name)
            parts.append(tokens)
            masks.append(mask)
        return torch.cat(parts, dim=1), torch.cat(masks, dim=1)

    def _groups(self, names: list[str]) -> list[list[int]]:
        """Places of the fields that share a token."""
        if self.recipe.fields == "tokens":
            return [[place] for place in range(len(names))]
        groups: dict[str, list[int]] = {}
        group_of = {f.name: f.group for f in self.schema.features}
        for place, name in enumerate(names):
            groups.setdefault(group_of[name], []).append(place)
        return list(groups.values())

    def _fields(self, embedded: dict[str, Tensor], names: list[str], role_FD: Tensor | None) -> Tensor:
        """Tokens of fields, [rows, tokens, D]."""
        fields = torch.stack([embedded[name] for name in names], dim=1)
        fields = fields if role_FD is None else fields + role_FD
        if self.recipe.fields == "tokens":
            return fields
        return torch.stack([fields[:, places].sum(dim=1) for places in self._groups(names)], dim=1)

    def _history(self, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
        """E_User: the tokens of the newest items, [B, H·L, D], and their mask."""
        assert self.history is not None
        r, h = self.recipe, self.slots
        mask_BH = batch.masks_BL[name][:, -h:]
        b, h = mask_BH.shape
        if batch.content is not None and self.schema.content is not None:
            form: Form = r.history
            item_BH = batch.content.history_BL[name][:, -h:].masked_fill(~mask_BH, 0)
            named, place_BH = torch.unique(item_BH, return_inverse=True)
            found, place_N = self.items.embed(batch.content, form, named), place_BH.flatten()
            if form == "item":
                tokens, mask = self.items.summed(found)[place_N][:, None], mask_BH.reshape(-1, 1)
            else:
                tokens, mask, _, _ = self.items.together(found, place_N, place_N)
                mask = mask & mask_BH.reshape(-1, 1)
        else:
            tokens, mask, _, _ = self.items.bare(b * h)
            mask = mask & mask_BH.reshape(-1, 1)
        if r.roles:
            tokens = tokens + self.history_role + self.slot[-h:].repeat(b, 1)[:, None]
        if r.history_fields:
            fields = [batch.embedded["main"][f.name][:, -h:] for f in self.history.features]
            if fields:
                about_ND = torch.stack(fields).sum(dim=0).reshape(b * h, 1, -1)
                tokens = torch.cat([tokens[:, :1] + about_ND, tokens[:, 1:]], dim=1)
        return tokens.reshape(b, -1, r.width), mask.reshape(b, -1)
