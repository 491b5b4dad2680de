"""A bundle that scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from trainer.runtime.content import ContentSource, TokenSource
from trainer.runtime.encoding import Array, Encoding, Items, Level, Raw
from trainer.runtime.errors import BundleError
from trainer.runtime.lookup import Lookup, assemble
from trainer.runtime.models.batch import Batch
from trainer.runtime.models.recipe import load
from trainer.runtime.models.registry import bundled_class
from trainer.runtime.tokens import TokenReader

Inputs = Mapping[str, Array]

FORMAT = 3  # of a bundle; counted up when a runtime could not read those before
DTYPES: dict[str, npt.DTypeLike] = {"float": np.float32, "int64": np.int64, "string": object}


@dataclass(frozen=True)
class Input:
    """An input of a served model.

    Args:
        name: `user__<column>` [1], `hist__<column>` [H] or `cand__<column>` [C].
        kind: `string`, `float` or `int64`. A missing string is empty, a missing number NaN.
        column: The raw column it carries.
        level: What there is one value of: `request`, `candidate`, or an entry of `buys` or `behaviours`.
    """

    name: str
    kind: str
    column: str
    level: Level


def input_name(column: str, level: Level) -> str:
    """The served model's input that carries a raw column.

    Example:
        >>> input_name("user_id", "request"), input_name("buy_item", "buys"), input_name("i_price", "candidate")
        ('user__user_id', 'hist__buy_item', 'cand__i_price')
        >>> input_name("cand_item", "candidate")
        'cand__item'
    """
    if level == "request":
        return f"user__{column}"
    if level == "candidate":
        return f"cand__{column.removeprefix('cand_')}"  # said once
    return f"hist__{column}"


def inputs_of(encoding: Encoding) -> list[Input]:
    """The inputs that a model with this encoding wants, by name."""
    found = [Input(input_name(name, c.level), c.kind, name, c.level) for name, c in encoding.columns().items()]
    return sorted(found, key=lambda i: i.name)


class Scorer:
    """Scores candidates from raw features with a bundle's own vocabulary, tokens and weights.

    Args:
        folder: The bundle.
        tokens: Content tokens to use instead of the bundle's own copy, made by the same encoder.

    Attributes:
        info: `bundle.json`.
        inputs: What `score` wants.
        outputs: Names of what it returns, such as `cvr_logit`.

    Raises:
        BundleError: If the bundle is of another format.
        TokensError: If its tokens are cut short.
    """

    def __init__(self, folder: Path | str, tokens: TokenSource | None = None) -> None:
        self.folder = Path(folder)
        self.info = read_info(self.folder)
        self.encoding = Encoding.load(self.folder)
        self.items = load_items(self.folder / "item_tokens")
        recipe = json.loads((self.folder / "recipe.json").read_text(encoding="utf-8"))
        kind = bundled_class(self.info["model"])
        self.schema = schema = self.encoding.schema
        typed = load(kind.Recipe, recipe)
        self.ranker = kind(schema, typed)
        self.ranker.load_state_dict(load_file(self.folder / "dense.safetensors"))
        self.ranker.eval()
        self.lookup = Lookup(schema, kind.spaces(schema, typed))
        load_tables(self.folder, self.lookup)
        self.lookup.eval()
        self.content: ContentSource | None = None
        if self.encoding.content:
            self.content = ContentSource(tokens or TokenReader(self.folder / "item_tokens"), self.items)
        self.ranker.cache_content()
        self.inputs = inputs_of(self.encoding)
        self.outputs: list[str] = self.info["outputs"]
        self._correction = math.log(self.info["negatives_kept"])

    def score(self, inputs: Inputs) -> dict[str, npt.NDArray[np.float32]]:
        """Score the candidates of one request.

        Args:
            inputs: `Input.name` → values: `user__*` [1], `hist__*` [H], `cand__*` [C]; strings as `str` or `bytes`.

        Returns:
            Task + `_logit` → logits, [C] float32.

        Raises:
            ValueError: If an input is missing or of another length than its kin.
        """
        return self.score_raw(self.raw(inputs))

    def raw(self, inputs: Inputs) -> Raw:
        """Raw columns of one request from the inputs of `score`."""
        columns: dict[str, Array] = {}
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            if spec.name not in inputs:
                raise ValueError(f"input {spec.name} is missing; this model wants {[i.name for i in self.inputs]}")
            values = np.asarray(inputs[spec.name])
            if values.ndim != 1:
                raise ValueError(f"input {spec.name} has shape {values.shape}; give one dimension")
            if sizes.setdefault(spec.level, len(values)) != len(values):
                raise ValueError(f"input {spec.name} has {len(values)} values where others have {sizes[spec.level]}")
            columns[spec.column] = _strings(values) if spec.kind == "string" else values
        if sizes.get("request", 1) != 1:
            raise ValueError(f"inputs user__* have {sizes['request']} values; give one")
        counts = {level: np.array([size]) for level, size in sizes.items() if level != "request"}
        return Raw(columns, counts, {spec.column: spec.level for spec in self.inputs})

    def batch(self, raw: Raw) -> Batch:
        """The batch that the model sees for raw columns of B requests."""
        encoded = self.encoding.encode(raw, self.items)
        return assemble(self.schema, encoded, self.lookup(encoded), self.content)

    @torch.inference_mode()
    def score_raw(self, raw: Raw) -> dict[str, npt.NDArray[np.float32]]:
        """Score the candidates of B requests.

        Args:
            raw: Raw columns.

        Returns:
            Task + `_logit` → logits of all candidates in order, [S] float32. Negatives that training had thinned to a
            share w are made up for: ln w is added to the logits of the labelled tasks.
        """
        if not int(raw.counts["candidate"].sum()):
            return {name: np.empty(0, np.float32) for name in self.outputs}
        return self.logits(self.batch(raw))

    @torch.inference_mode()
    def logits(self, batch: Batch) -> dict[str, npt.NDArray[np.float32]]:
        """Served logits of a batch, as `score_raw` returns them."""
        found = {}
        for task, logits_S in self.ranker(batch).items():
            shift = self._correction if task in self.encoding.tasks else 0.0
            found[f"{task}_logit"] = (logits_S.float() + shift).numpy()
        return found


def read_info(folder: Path) -> dict[str, Any]:
    """`bundle.json` of a bundle that this code can read.

    Raises:
        BundleError: If it is of another format.
    """
    info: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    if (found := info.get("format")) != FORMAT:
        raise BundleError(
            f"the bundle is of format {found}, and this code reads {FORMAT}",
            field="bundle",
            value=folder.name,
            remedy="make the bundle again: run `freshrank bundle` of its day",
        )
    return info


def as_inputs(raw: Raw, inputs: list[Input]) -> dict[str, Array]:
    """The inputs of `Scorer.score` that carry raw columns of one request: what the gateway sends for it."""
    found: dict[str, Array] = {}
    for spec in inputs:
        values = raw.columns[spec.column]
        if spec.kind == "string":
            values = np.array([value or "" for value in values.tolist()], dtype=object)
        found[spec.name] = values if spec.kind == "string" else values.astype(DTYPES[spec.kind])
    return found


def load_items(folder: Path) -> Items:
    """Read the item table that `save_items` wrote."""
    found = json.loads((folder / "items.json").read_text(encoding="utf-8"))
    with np.load(folder / "attributes.npz") as arrays:
        attributes = {name: arrays[name] for name in arrays.files}
    rows = {item: row for row, item in enumerate(found["item"], start=1)}
    return Items(rows, attributes, ["", *found["text_sha"]], ["", *found["image_sha"]])


def save_items(folder: Path, items: Items) -> None:
    """Write an item table: `items.json` and `attributes.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = sorted(items.row, key=items.row.__getitem__)
    found = {"item": keys, "text_sha": list(items.text_sha[1:]), "image_sha": list(items.image_sha[1:])}
    (folder / "items.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    np.savez(folder / "attributes.npz", **items.attributes)  # type: ignore[arg-type]


def load_tables(folder: Path, lookup: Lookup) -> None:
    """Fill a lookup with a bundle's embeddings."""
    for space in dict.fromkeys(t.space for t in lookup.layout):
        weights = load_file(folder / "embeddings" / f"{space}.safetensors")
        for t in lookup.layout:
            if t.space == space:
                with torch.no_grad():
                    lookup.weight(space, t.table).copy_(weights[t.table])


def _strings(values: Array) -> Array:
    """Values as objects: str, or None where empty."""
    found = np.empty(len(values), dtype=object)
    for place, value in enumerate(values.tolist()):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        found[place] = text or None
    return found
