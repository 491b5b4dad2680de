"""MARN: click-through rate from item representations that keep apart what modalities share and what each adds.

Li et al. 2020, "Adversarial Multimodal Representation Learning for Click-Through Rate Prediction". Shape suffixes: B
requests, S candidates, I distinct items, N items of candidates and histories, L behaviours, M modalities, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.batch import Batch, ContentBatch
from trainer.runtime.models.layers.content import normal
from trainer.runtime.models.layers.fields import task_of
from trainer.runtime.models.layers.gru import MaskedGRU
from trainer.runtime.models.layers.memory import Memory
from trainer.runtime.models.layers.mlp import MLP
from trainer.runtime.models.layers.multimodal import MultimodalFusion, Representation
from trainer.runtime.models.layers.property_gru import PropertyGRU, StateAttention
from trainer.runtime.models.layers.reversal import reversal_strength
from trainer.runtime.models.layers.text_cnn import TextCNN
from trainer.runtime.models.ranges import Natural, Size, Weight
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.recipe import ModelRecipe, Optimizer, RecipeError
from trainer.runtime.models.schema import ModelFeature, Schema, Space

Fusion = Literal["ids", "image", "conc", "maf", "maf_adv", "maf_ddma"]


@dataclass(frozen=True)
class MARNRecipe(ModelRecipe):
    """Configuration of MARN; `fusion` and `behaviours` name the rows of its Table 3.

    Args:
        task: Task to learn; empty for the first that the data have.
        fusion: Item representation: the projected IDs or image alone, the element-wise sum of all modalities (CONC),
            attention fusion, with one discriminator (ADV), or with two (DDMA).
        behaviours: The plain GRU of BaseModel, which takes the property as a further input and gives its last state, or
            APGRU.
        sequence: The history to read.
        history_items: Newest items of it to read.
        width: Width of representations and states (d).
        id_widths: Width of the embeddings of known ID fields.
        id_width: Width of other ID fields.
        statistic_width: Width of each discretised statistic.
        property_width: Width of each property of a behaviour.
        title_filters: TextCNN's filters of each window.
        title_windows: TextCNN's windows, in words.
        attention_hidden: Hidden widths of the candidate's attention.
        hidden: Hidden widths of the prediction layer: (512, 256) as for Taobao, (128, 64) as for Amazon.
        context: Whether the prediction layer also reads user, context and cross fields, as every baseline does here.
        context_width: Width of those.
        lambda0: Value that the reversal's λ tends to.
        tradeoff: λ acts in the gradient reversal, or multiplies the losses of D_s and D1 (the reversal's is 1 then).
        init_std: Standard deviation of initial embeddings.
        optimizer: The paper's AdaGrad, exact for the tables too.
    """

    task: str = ""
    fusion: Fusion = "maf_ddma"
    behaviours: Literal["gru", "apgru"] = "apgru"
    sequence: str = "behaviours"
    history_items: Natural = 50
    width: Size = 64
    id_widths: dict[str, Size] = field(
        default_factory=lambda: {"item_id": 32, "shop_id": 24, "brand_id": 24, "category_id": 16}
    )
    id_width: Size = 16
    statistic_width: Size = 8
    property_width: Size = 8
    title_filters: Size = 64
    title_windows: tuple[Size, ...] = (2, 3, 4)
    attention_hidden: tuple[Size, ...] = (64,)
    hidden: tuple[Size, ...] = (512, 256)
    context: bool = True
    context_width: Size = 8
    lambda0: Weight = 0.05
    tradeoff: Literal["reversal", "losses"] = "reversal"
    init_std: Weight = 0.01
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(
            name="adagrad", lr=0.1, eps=1e-8, initial_accumulator=0.1, table_lr=0.1, table_exact=True
        )
    )


class MARN(RankingModel):
    """Fuses IDs, image, title and statistics into item representations, and reads a user's behaviours with them.

    A candidate field is a statistic where it was a number (`buckets`), an ID else. An item that lacks its image or
    title is represented by the other modalities.

    Args:
        schema: What the data have.
        recipe: Configuration.
    """

    Recipe = MARNRecipe
    recipe: MARNRecipe

    def __init__(self, schema: Schema, recipe: MARNRecipe) -> None:
        super().__init__(schema, recipe)
        r = recipe
        self.task = task_of(schema, r.task)
        self.sequence = schema.sequence(r.sequence) if r.history_items > 0 else None
        item_fields = [f for f in schema.group("item") if f.kind == "id"]
        self.ids = [f.name for f in item_fields if not f.buckets]
        self.statistics = [f.name for f in item_fields if f.buckets]
        past = self.sequence.features if self.sequence else ()
        self.past_statistics = any(_own(f.name) in self.statistics for f in past)
        self.properties = [f.name for f in past if _own(f.name) not in _names(schema)]
        self.space_of = {name: space.name for space in self.spaces(schema, r) for name in space.features}
        inputs = {"ids": sum(_id_width(r, name) for name in self.ids)} if self.ids else {}
        inputs |= {"image": schema.content.image_width} if schema.content is not None else {}
        if r.fusion in ("ids", "image"):
            inputs = {r.fusion: inputs[r.fusion]} if r.fusion in inputs else {}
        else:
            if schema.content is not None:
                self.title = TextCNN(schema.content.text_width, r.title_filters, r.title_windows)
                inputs["title"] = self.title.width
            if self.statistics:
                inputs["statistic"] = r.statistic_width * len(self.statistics)
        if not inputs:
            raise RecipeError("the data lack it", field="fusion", value=r.fusion, remedy="use a model of fields")
        self.modalities = tuple(inputs)
        self.projections = nn.ModuleDict({name: nn.Linear(width, r.width) for name, width in inputs.items()})
        self.memory = Memory()
        self.fusion: MultimodalFusion | None = None
        if r.fusion.startswith("maf"):
            adversary = {"maf": "none", "maf_adv": "single", "maf_ddma": "double"}[r.fusion]
            self.fusion = MultimodalFusion(len(inputs), r.width, adversary)  # type: ignore[arg-type]
        known = 0
        if self.sequence:
            known = r.property_width * len(self.properties)
            if r.behaviours == "apgru":
                self.apgru = PropertyGRU(r.width, known, r.width)
                self.attention = StateAttention(r.width, r.width, r.attention_hidden)
            else:
                self.gru = MaskedGRU(r.width + known, r.width)
        self.context = [f.name for f in schema.group("user", "context", "cross")] if r.context else []
        users = r.width if self.sequence else 0
        self.predict = MLP(users + r.width + r.context_width * len(self.context), r.hidden, output=1)

    @classmethod
    def spaces(cls, schema: Schema, recipe: MARNRecipe) -> tuple[Space, ...]:
        """One space for each width: IDs, statistics, properties of behaviours, and the other fields."""
        fields: dict[str, tuple[int, list[str]]] = {}

        def want(space: str, width: int, name: str) -> None:
            fields.setdefault(space, (width, []))[1].append(name)

        own = {f.name: _item_space(recipe, f) for f in schema.group("item")}
        history = schema.sequence(recipe.sequence) if recipe.history_items > 0 else None
        past = {f.name: _own(f.name) for f in history.features} if history else {}
        for name, meaning in [*zip(own, own, strict=True), *past.items()]:
            space, width = own.get(meaning, ("property", recipe.property_width))
            if space:
                want(space, width, name)
        for f in schema.group("user", "context", "cross") if recipe.context else ():
            want("context", recipe.context_width, f.name)
        return tuple(Space(name, width, tuple(names), recipe.init_std) for name, (width, names) in fields.items())

    @classmethod
    def reads(cls, schema: Schema, recipe: MARNRecipe) -> Schema:
        """One history, as long as is read of it; content unless IDs alone are fused."""
        found, wanted = super().reads(schema, recipe), recipe.history_items
        return replace(
            found,
            sequences=tuple(
                replace(s, length=min(s.length, wanted))
                for s in found.sequences
                if wanted and s.name == recipe.sequence
            ),
            content=None if recipe.fusion == "ids" else found.content,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Score candidates."""
        return {self.task: self._score(batch)[0]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_CTR and the losses of D_s, D0 and D1 (Eq. 10) over the items of candidates and histories."""
        logits_S, items = self._score(batch, judge=True)
        losses = {self.task: functional.binary_cross_entropy_with_logits(logits_S, batch.labels_S[self.task])}
        scale = self._lambda(batch) if self.recipe.tradeoff == "losses" else 1.0
        for name, loss in items.losses.items() if items else ():
            losses[name] = loss if name == "first" else scale * loss
        return losses

    def item_representations(self, batch: Batch) -> Representation | Tensor:
        """Candidates alone, to be stored at deployment: `Representation` with attention fusion, else vectors [S, D].

        They depend on the item's own fields, image, title and statistics, and on nothing of the request.
        """
        e_NMD, mask_NM = self._modalities(batch, self._contents(batch), None)
        if self.fusion is None:
            return _sum(e_NMD, mask_NM)
        found: Representation = self.fusion(e_NMD, mask_NM)
        return found

    def attention_by_modality(self, batch: Batch) -> Tensor:
        """L2 norm of the vector attention of each candidate, [S, M] in the order of `modalities` (Figure 4).

        Raises:
            RecipeError: If the recipe has no attention.
        """
        found = self.item_representations(batch)
        if isinstance(found, Tensor):
            raise RecipeError("has no attention", field="fusion", value=self.recipe.fusion, remedy="use maf_ddma")
        norm_SM: Tensor = torch.linalg.vector_norm(found.attention_NMD, dim=2)
        return norm_SM

    def _lambda(self, batch: Batch) -> float:
        return reversal_strength(batch.progress, self.recipe.lambda0)

    def item_vectors(self, batch: Batch) -> dict[str, Tensor]:
        """What `score_items` reads: vectors of the candidates [S, D], and of the items of the history [N, D].

        They can be stored when a model is deployed (the paper, section 4.9.2). An item has one vector as a candidate
        and one as a behaviour, which lacks statistics where histories have none.
        """
        candidate_SD, past_ND, _ = self._items(batch, judge=False)
        found = {"candidate": candidate_SD}
        return found | {self.sequence.name: past_ND} if self.sequence else found

    def score_items(self, batch: Batch, candidate_SD: Tensor, past_ND: Tensor) -> Tensor:
        """Logits [S] from item vectors that are there already.

        Args:
            batch: The batch; of its items nothing is read, of its behaviours the properties and the mask.
            candidate_SD: Vectors of the candidates.
            past_ND: Vectors of the behaviours' items, where the mask of the newest ones is True.
        """
        parts = [candidate_SD]
        if self.sequence:
            mask_BL = batch.masks_BL[self.sequence.name][:, -self.recipe.history_items :]
            parts.append(self._user(batch, candidate_SD, past_ND, mask_BL))
        parts += [batch.of("context", name) for name in self.context]
        logits_S1: Tensor = self.predict(torch.cat(parts, dim=1))
        return logits_S1[:, 0]

    def _score(self, batch: Batch, judge: bool = False) -> tuple[Tensor, Representation | None]:
        candidate_SD, past_ND, found = self._items(batch, judge)
        return self.score_items(batch, candidate_SD, past_ND), found

    def _items(self, batch: Batch, judge: bool) -> tuple[Tensor, Tensor, Representation | None]:
        """Vectors of candidates and behaviours; with `judge` the discriminators' losses besides."""
        contents = self._contents(batch)
        e_NMD, mask_NM = self._modalities(batch, contents, None)
        candidates = len(e_NMD)
        if self.sequence:
            mask_BL = batch.masks_BL[self.sequence.name][:, -self.recipe.history_items :]
            past = self._modalities(batch, contents, mask_BL)
            e_NMD, mask_NM = torch.cat([e_NMD, past[0]]), torch.cat([mask_NM, past[1]])
        found = None
        if self.fusion:
            strength = self._lambda(batch) if self.recipe.tradeoff == "reversal" else 1.0
            found = self.fusion(e_NMD, mask_NM, strength, judge)
            item_ND = found.item_ND
        else:
            item_ND = _sum(e_NMD, mask_NM)
        return item_ND[:candidates], item_ND[candidates:], found

    def _user(self, batch: Batch, candidate_SD: Tensor, past_ND: Tensor, mask_BL: Tensor) -> Tensor:
        """The user as each candidate sees them, [S, D]."""
        items_BLD = past_ND.new_zeros(*mask_BL.shape, past_ND.shape[1])
        items_BLD[mask_BL] = past_ND
        n = mask_BL.shape[1]
        known = [batch.embedded["property"][name][:, -n:] for name in self.properties]
        property_BLP = torch.cat(known, dim=2) if known else items_BLD[..., :0]
        if self.recipe.behaviours == "apgru":
            states_BLD = self.apgru(items_BLD, property_BLP, mask_BL)
            seen_SD: Tensor = self.attention(states_BLD, mask_BL, candidate_SD, batch.request_S)
            return seen_SD
        _, last_BD = self.gru(torch.cat([items_BLD, property_BLP], dim=2), mask_BL)
        return batch.to_candidates(last_BD)

    def _contents(self, batch: Batch) -> dict[str, Tensor]:
        """Projected image and title of the batch's distinct items, [I, D] each: once an item, however often shown."""
        names = [name for name in self.modalities if name in ("image", "title")]
        if not names:
            return {}
        assert batch.content is not None

        def project(content: ContentBatch) -> Tensor:
            found = []
            for name in names:
                if name == "image":
                    vector_ID = normal(content.image_global_ID)
                else:
                    vector_ID = self.title(normal(content.text_ITD), content.text_mask_IT)
                found.append(self.projections[name](vector_ID))
            return torch.cat(found, dim=1)

        return dict(zip(names, self.memory(batch.content, project).chunk(len(names), dim=1), strict=True))

    def _modalities(self, batch: Batch, contents: dict[str, Tensor], mask_BL: Tensor | None) -> tuple[Tensor, Tensor]:
        """Projected modalities [N, M, D] and their mask [N, M] of the candidates, or of the unmasked behaviours."""
        content = batch.content
        item_N = None
        if content is not None and self.schema.content is not None:
            item_N = content.candidate_S
            if mask_BL is not None and self.sequence:
                item_N = content.history_BL[self.sequence.name][:, -mask_BL.shape[1] :][mask_BL]
        n = len(batch.request_S) if mask_BL is None else int(mask_BL.sum())
        found, masks = [], []
        for name in self.modalities:
            if name in contents:
                assert content is not None and item_N is not None
                has_I = content.image_mask_I if name == "image" else content.text_mask_IT.any(1)
                found.append(contents[name][item_N])
                masks.append(has_I[item_N])
            else:
                names = self.ids if name == "ids" else self.statistics
                vector = torch.cat([self._field(batch, field_name, mask_BL, n) for field_name in names], dim=1)
                found.append(self.projections[name](vector))
                known = mask_BL is None or name == "ids" or self.past_statistics
                masks.append(torch.full((n,), known, dtype=torch.bool, device=vector.device))
        return torch.stack(found, dim=1), torch.stack(masks, dim=1)

    def _field(self, batch: Batch, name: str, mask_BL: Tensor | None, n: int) -> Tensor:
        """A field of the candidates or of the unmasked behaviours, [N, width]; zero where the history lacks it."""
        vectors = batch.embedded[self.space_of[name]]
        if mask_BL is None:
            return vectors[name]
        assert self.sequence is not None
        past = f"{self.sequence.name}.{name}"
        if past not in vectors:
            return vectors[name].new_zeros(n, vectors[name].shape[1])
        return vectors[past][:, -mask_BL.shape[1] :][mask_BL]


def _sum(e_NMD: Tensor, mask_NM: Tensor) -> Tensor:
    return (e_NMD * mask_NM[..., None]).sum(dim=1)


def _own(name: str) -> str:
    """`behaviours.item_id` → `item_id`."""
    return name.split(".", 1)[1]


def _names(schema: Schema) -> set[str]:
    return {f.name for f in schema.group("item")}


def _item_space(recipe: MARNRecipe, feature: ModelFeature) -> tuple[str, int]:
    """Space and width of a field of items; no space where the recipe does not look at it."""
    if feature.kind != "id" or recipe.fusion == "image" or (feature.buckets and recipe.fusion == "ids"):
        return "", 0
    width = recipe.statistic_width if feature.buckets else _id_width(recipe, feature.name)
    return "statistic" if feature.buckets else f"id{width}", width


def _id_width(recipe: MARNRecipe, name: str) -> int:
    return recipe.id_widths.get(name, recipe.id_width)
