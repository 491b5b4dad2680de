"""Random schemas and batches for tests of models, with plain tables as the lookup.

>>> schema = make_schema()
>>> batch = make_batch(schema, candidates=(3, 1))
>>> model = Embedded("camenn", schema, {"width": 8, "heads": 2})  # doctest: +SKIP
>>> model(batch)["cvr"].shape  # doctest: +SKIP
torch.Size([4])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trainer.optimizers import Dense
from trainer.runtime.models.batch import Batch, ContentBatch
from trainer.runtime.models.recipe import Optimizer
from trainer.runtime.models.registry import build
from trainer.runtime.models.schema import ContentWidths, ModelFeature, Schema, Sequence, Space

M = TypeVar("M", bound=nn.Module)

ITEM_FIELDS = (
    ModelFeature("item_id", "item", "item_id", 40),
    ModelFeature("shop_id", "item", "shop_id", 6),
    ModelFeature("brand_id", "item", "brand_id", 7),
    ModelFeature("category_id", "item", "category_id", 5),
    ModelFeature("i_orders_7d@10", "item", "i_orders_7d@10", 11, buckets=10),
    ModelFeature("i_orders_7d@100", "item", "i_orders_7d@100", 101, buckets=100),
)
OTHER_FIELDS = (
    ModelFeature("age_band", "user", "age_band", 5),
    ModelFeature("hour", "context", "hour", 25),
    ModelFeature("price", "item", "price", 11, buckets=10),
    ModelFeature("x_category_buys", "cross", "x_category_buys", 11, buckets=10),
)
PROPERTIES = {"buys": (("gap", 8),), "behaviours": (("type", 4), ("gap", 8))}


def make_schema(
    *,
    content: bool = True,
    sequences: tuple[str, ...] = ("buys", "behaviours"),
    numbers: bool = False,
    tasks: tuple[str, ...] = ("cvr",),
    length: int = 4,
) -> Schema:
    """A small schema with every kind of field; items of histories have no statistics, as in a real one.

    Args:
        content: Whether there are text and image tokens.
        sequences: Histories to have, of `buys` and `behaviours`.
        numbers: Whether one field is a bare number.
        tasks: Labels.
        length: Items of a history.
    """
    made = tuple(
        Sequence(
            name,
            length,
            tuple(replace(f, name=f"{name}.{f.name}") for f in ITEM_FIELDS if not f.buckets)
            + tuple(ModelFeature(f"{name}.{p}", "item", f"history_{p}", rows) for p, rows in PROPERTIES[name]),
        )
        for name in sequences
    )
    number = (ModelFeature("weight", "item", "weight", 2, kind="number"),) if numbers else ()
    return Schema(
        features=ITEM_FIELDS + OTHER_FIELDS + number,
        sequences=made,
        content=ContentWidths(text_tokens=5, text_width=6, patches=4, image_width=7) if content else None,
        tasks=tasks,
    )


def make_batch(
    schema: Schema,
    requests: int = 4,
    candidates: int | tuple[int, ...] = 3,
    *,
    items: int = 12,
    seed: int = 0,
    empty_history: bool = False,
    no_text: bool = False,
    no_image: bool = False,
) -> Batch:
    """A random batch of requests on a random catalogue, not embedded yet: `Tables.embed` does that.

    About one item in six lacks its text and one its image; histories have random lengths, none included.

    Args:
        schema: The schema.
        requests: Requests, where `candidates` is one number.
        candidates: Candidates a request, or of each request.
        items: Items in the catalogue.
        seed: Seed of everything.
        empty_history: No request has a history.
        no_text: No item has a text.
        no_image: No item has an image.
    """
    rng = torch.Generator().manual_seed(seed)
    counts = candidates if isinstance(candidates, tuple) else (candidates,) * requests
    b, s = len(counts), sum(counts)

    def ints(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=rng)

    catalogue = {f.name: ints(f.rows, items) for f in schema.group("item") if f.kind == "id"}
    candidate_S = ints(items, s)
    ids = {f.name: ints(f.rows, b) for f in schema.group("user", "context")}
    ids |= {f.name: ints(f.rows, s) for f in schema.group("cross") if f.kind == "id"}
    ids |= {name: values[candidate_S] for name, values in catalogue.items()}
    ids |= {f.name: torch.randn(s, generator=rng) for f in schema.group("item", "cross") if f.kind == "number"}
    masks, history = {}, {}
    for sequence in schema.sequences:
        length = sequence.length
        kept_B = torch.zeros(b, dtype=torch.long) if empty_history else ints(length + 1, b)
        masks[sequence.name] = torch.arange(length) >= (length - kept_B)[:, None]
        history[sequence.name] = ints(items, b, length)
        for f in sequence.features:
            own = f.name.removeprefix(f"{sequence.name}.")
            ids[f.name] = catalogue[own][history[sequence.name]] if own in catalogue else ints(f.rows, b, length)
    return Batch(
        embedded={},
        request_S=torch.repeat_interleave(torch.arange(b), torch.tensor(counts)),
        masks_BL=masks,
        content=_content(schema.content, candidate_S, history, catalogue, rng, no_text, no_image)
        if schema.content
        else None,
        labels_S={task: ints(2, s).float() for task in schema.tasks},
        ids=ids,
        progress=0.5,
        request_fields=frozenset(f.name for f in schema.group("user", "context")),
    )


def _content(
    widths: ContentWidths,
    candidate_S: Tensor,
    history: dict[str, Tensor],
    catalogue: dict[str, Tensor],
    rng: torch.Generator,
    no_text: bool,
    no_image: bool,
) -> ContentBatch:
    items = len(catalogue["item_id"])
    tokens_I = torch.randint(1, widths.text_tokens + 1, (items,), generator=rng)
    tokens_I[torch.rand(items, generator=rng) < 1 / 6] = 0
    image_mask_I = torch.rand(items, generator=rng) > 1 / 6
    if no_text:
        tokens_I[:] = 0
    if no_image:
        image_mask_I[:] = False
    text_mask_IT = torch.arange(widths.text_tokens) < tokens_I[:, None]
    text = torch.randn(items, widths.text_tokens, widths.text_width, generator=rng)
    image = torch.randn(items, widths.patches, widths.image_width, generator=rng)
    whole = torch.randn(items, widths.image_width, generator=rng)
    return ContentBatch(
        text_ITD=text * text_mask_IT[:, :, None],
        text_mask_IT=text_mask_IT,
        image_IPD=image * image_mask_I[:, None, None],
        image_mask_I=image_mask_I,
        image_global_ID=whole * image_mask_I[:, None],
        text_key_I=torch.arange(items),
        image_key_I=torch.arange(items) + 1000,
        candidate_S=candidate_S,
        history_BL=history,
        category_I=catalogue["category_id"],
    )


class Tables(nn.Module):
    """Plain embedding tables for the spaces of a model: one `nn.Embedding` a space and table.

    Args:
        schema: The schema.
        spaces: What the model asks for.
    """

    def __init__(self, schema: Schema, spaces: tuple[Space, ...]) -> None:
        super().__init__()
        self.schema, self.spaces = schema, spaces
        self.fields = {f.name: f for f in schema.all_features()}
        self.tables = nn.ModuleDict()
        for space in spaces:
            for name in space.features:
                key = self._key(space.name, self.fields[name].table)
                if key not in self.tables:
                    table = nn.Embedding(self.fields[name].rows, space.width)
                    nn.init.normal_(table.weight, std=space.init_std)
                    self.tables[key] = table

    @staticmethod
    def _key(space: str, table: str) -> str:
        return f"{space}/{table}".replace(".", "_")

    def table(self, space: str, field: str) -> nn.Embedding:
        """The table that a field looks up in a space."""
        found = self.tables[self._key(space, self.fields[field].table)]
        assert isinstance(found, nn.Embedding)
        return found

    def embed(self, batch: Batch) -> Batch:
        """The batch with `embedded` filled from `ids`; a `number` multiplies row 1."""
        embedded: dict[str, dict[str, Tensor]] = {}
        for space in self.spaces:
            embedded[space.name] = {}
            for name in space.features:
                table: Any = self.tables[self._key(space.name, self.fields[name].table)]
                values = batch.ids[name]
                if self.fields[name].kind == "number":
                    embedded[space.name][name] = values[..., None] * table.weight[1]
                else:
                    embedded[space.name][name] = table(values)
        return replace(batch, embedded=embedded)


class Embedded(nn.Module):
    """A registered model with plain tables, to be trained by any optimiser.

    Args:
        name: The model's name.
        schema: The schema.
        recipe: Its recipe.
        seed: Seed of the initial weights.
    """

    def __init__(self, name: str, schema: Schema, recipe: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.model = build(name, schema, recipe)
        self.tables = Tables(schema, self.model.spaces(schema, self.model.recipe))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scores of a batch that is not embedded yet."""
        return self.model(self.tables.embed(batch))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch that is not embedded yet."""
        return self.model.losses(self.tables.embed(batch))

    def loss(self, batch: Batch) -> Tensor:
        """Their sum."""
        return torch.stack(list(self.losses(batch).values())).sum()


def shaken(module: M, std: float = 0.2, seed: int = 0) -> M:
    """The module with noise on every weight, norms and biases included: small initial values hide nothing then."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=rng) * std)
    return module


class RowWiseAdagrad(torch.optim.Optimizer):
    """Adagrad with one sum of squares a row, the mean over the row's weights: what the trainer's tables learn by.

    Args:
        tables: Weights [rows, width].
        lr: Learning rate.
        start: Where the sums start.
    """

    def __init__(self, tables: Iterable[Tensor], lr: float, start: float = 0.0) -> None:
        super().__init__(tables, {"lr": lr, "start": start})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override] # noqa: ARG002 - torch's signature
        """Move the rows that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["sum"] = weight.new_full((len(weight), 1), group["start"])
                # the trainer pads rows to fours with zeros, which count in the mean
                state["sum"] += weight.grad.square().sum(1, keepdim=True) / (-(-weight.shape[1] // 4) * 4)
                weight -= group["lr"] * weight.grad / (state["sum"].sqrt() + 1e-8)


class OwnOptimizers:
    """The optimisers that the model's recipe asks for: the trainer's of the dense part, an imitation of the tables'.

    Args:
        model: The model.
        optimizer: Another wish than its recipe's.
    """

    def __init__(self, model: Embedded, optimizer: Optimizer | None = None) -> None:
        recipe: Optimizer = optimizer or model.model.recipe.optimizer
        self.dense = Dense(model.model.named_parameters(), recipe)
        tables, start = list(model.tables.parameters()), recipe.table_initial_accumulator
        self.tables: torch.optim.Optimizer = (
            torch.optim.Adagrad(tables, lr=recipe.table_lr, initial_accumulator_value=start, eps=1e-8)
            if recipe.table_exact
            else RowWiseAdagrad(tables, recipe.table_lr, start)
        )

    def step(self, progress: float = 0.0) -> None:
        """Move all weights and forget the gradients."""
        self.dense.step(progress)
        self.tables.step()
        self.tables.zero_grad(set_to_none=True)


def take_requests(batch: Batch, keep: list[int]) -> Batch:
    """The batch of some requests alone, in the order given; content keeps all items."""
    rows = torch.cat([torch.nonzero(batch.request_S == b).flatten() for b in keep])
    counts = torch.tensor([int((batch.request_S == b).sum()) for b in keep])
    b, s = batch_size(batch), len(batch.request_S)

    def pick(name: str, x: Tensor) -> Tensor:
        per_request = name in batch.request_fields or "." in name
        assert len(x) == (b if per_request else s)
        return x[torch.tensor(keep)] if per_request else x[rows]

    content = batch.content
    if content is not None:
        content = replace(
            content,
            candidate_S=content.candidate_S[rows],
            history_BL={name: x[torch.tensor(keep)] for name, x in content.history_BL.items()},
        )
    return replace(
        batch,
        embedded={},
        request_S=torch.repeat_interleave(torch.arange(len(keep)), counts),
        masks_BL={name: x[torch.tensor(keep)] for name, x in batch.masks_BL.items()},
        content=content,
        labels_S={name: x[rows] for name, x in batch.labels_S.items()},
        ids={name: pick(name, x) for name, x in batch.ids.items()},
    )


def narrowed(batch: Batch, schema: Schema) -> Batch:
    """What a batch of a wider schema has of a narrower one: as the trainer prepares it."""
    length = {sequence.name: sequence.length for sequence in schema.sequences}
    ids = {f.name: batch.ids[f.name] for f in schema.all_features()}
    for sequence in schema.sequences:
        ids |= {f.name: ids[f.name][:, -sequence.length :] for f in sequence.features}
    content = batch.content if schema.content is not None else None
    if content is not None:
        content = replace(content, history_BL={name: content.history_BL[name][:, -n:] for name, n in length.items()})
    return replace(
        batch,
        ids=ids,
        masks_BL={name: batch.masks_BL[name][:, -n:] for name, n in length.items()},
        content=content,
        request_fields=batch.request_fields & ids.keys(),
    )


def batch_size(batch: Batch) -> int:
    """Requests of a batch."""
    return int(batch.request_S.max()) + 1
