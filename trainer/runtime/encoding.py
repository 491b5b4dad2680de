"""From raw columns to indices: vocabularies, bucket edges and the null rule, as they were at training.

Null rule: index 0 is unknown or missing (null, NaN, an empty string, a key the vocabulary does not have); a number's
bucket i is index i + 1. Numbers are compared as float32, which is what a request over the wire carries.

Shape suffixes: B requests, S candidates of all requests, N entries of all histories of a kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.runtime.models import schema as models

Array = npt.NDArray[Any]  # of any type of values: numbers or texts
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
Level = Literal["request", "candidate", "buys", "behaviours"]
HISTORY_ITEMS: dict[str, str] = {"buys": "buy_item", "behaviours": "beh_item"}  # raw columns of histories' items


@dataclass(frozen=True)
class Field:
    """How a model's feature is made of a raw column.

    Args:
        name: Name of the feature in the model's schema.
        column: Raw column, or attribute of the item table, as `source` says.
        table: Its vocabulary.
        level: What there is one value of: a request, a candidate, an entry of a history.
        kind: `category` is looked up, `number` bucketised, `code` a small integer counted from 0, `gap` the seconds
            from `column` to the request, bucketised.
        group: The model's group.
        buckets: Buckets of a number, 0 for other kinds.
        read: Whether the model looks it up; the category is encoded in any case, for negatives of the same one.
        source: `request`: the request carries the values. `item_table`: they are an attribute of the history's items.
    """

    name: str
    column: str
    table: str
    level: Level
    kind: Literal["category", "number", "code", "gap"]
    group: models.Group
    buckets: int = 0
    read: bool = True
    source: Literal["request", "item_table"] = "request"


@dataclass(frozen=True)
class RawColumn:
    """A raw column that an encoding reads.

    Args:
        kind: What its values are over the wire.
        level: What there is one value of.
    """

    kind: Literal["string", "float", "int64"]
    level: Level


@dataclass(frozen=True)
class Raw:
    """Raw columns of B requests, lists flattened.

    Args:
        columns: Column → values, [B] (requests), [S] (candidates) or [N] (a history): objects (str or None) for
            categories, numbers otherwise.
        counts: `candidate`, `buys`, `behaviours` → how many values each request has, [B].
        levels: Column → what there is one value of.
    """

    columns: Mapping[str, Array]
    counts: Mapping[str, I64]
    levels: Mapping[str, Level]


@dataclass(frozen=True)
class Items:
    """What is known of items that histories name: their attributes' indices and content hashes.

    Args:
        row: Item → row; row 0 is the unknown item.
        attributes: Attribute → index of each row.
        text_sha: Content hash of each row's text, or an empty string.
        image_sha: Content hash of each row's photo, or an empty string.
    """

    row: Mapping[str, int]
    attributes: Mapping[str, npt.NDArray[np.int32]]
    text_sha: Sequence[str]
    image_sha: Sequence[str]

    def rows(self, items: Array) -> I64:
        """Rows of items, [N]; 0 where unknown."""
        return lookup(self.row, items)


@dataclass(frozen=True)
class Encoded:
    """Indices of B requests.

    Args:
        ids: Feature → indices, flat: [B], [S] or [N].
        counts: `candidate` and each history → entries of each request, [B].
        candidate_text: Content hash of each candidate's text, [S] objects.
        candidate_image: Content hash of each candidate's photo, [S] objects.
        history_items: History → rows in the item table, [N].
        labels: Task → 0 or 1, [S].
    """

    ids: dict[str, Tensor]
    counts: dict[str, Tensor]
    candidate_text: Array
    candidate_image: Array
    history_items: dict[str, I64]
    labels: dict[str, Tensor] = field(default_factory=dict)


def history_level(name: str) -> Level:
    """The level of a history's entries."""
    return "buys" if name == "buys" else "behaviours"


def lookup(vocabulary: Mapping[str, int], values: Array) -> I64:
    """Indices of values, 0 where a value is missing or unknown."""
    get = vocabulary.get
    return np.fromiter((get(value, 0) for value in values.tolist()), np.int64, len(values))


def bucketise(edges: F32, values: Array) -> I64:
    """Bucket + 1 of numbers, 0 where missing. A value equal to an edge falls above it."""
    x = np.asarray(values, dtype=np.float64).astype(np.float32)
    return np.where(np.isfinite(x), np.searchsorted(edges, x, side="right") + 1, 0).astype(np.int64)


class Encoding:
    """Turns raw columns into indices.

    Args:
        fields: The features, in order.
        lengths: History → entries kept, newest.
        vocabularies: Table → key → index from 1 on.
        edges: Table → ascending bucket edges, float32.
        content: Widths of the content tokens, or None.
        tasks: Labels.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        lengths: Mapping[str, int],
        vocabularies: Mapping[str, Mapping[str, int]],
        edges: Mapping[str, F32],
        content: models.ContentWidths | None,
        tasks: Sequence[str],
    ) -> None:
        self.fields = tuple(fields)
        self.lengths = dict(lengths)
        self.vocabularies, self.edges = dict(vocabularies), dict(edges)
        self.content, self.tasks = content, tuple(tasks)

    def rows(self, table: str) -> int:
        """Rows of a table, row 0 included."""
        if table in self.vocabularies:
            return len(self.vocabularies[table]) + 1
        if table in self.edges:
            return len(self.edges[table]) + 2
        return CODES

    @property
    def schema(self) -> models.Schema:
        """The schema as models see it."""
        read = [f for f in self.fields if f.read]
        return models.Schema(
            features=tuple(self._feature(f) for f in read if f.level in ("request", "candidate")),
            sequences=tuple(
                models.Sequence(name, length, tuple(self._feature(f) for f in read if f.level == name))
                for name, length in self.lengths.items()
            ),
            content=self.content,
            tasks=self.tasks,
        )

    def _feature(self, f: Field) -> models.ModelFeature:
        return models.ModelFeature(f.name, f.group, f.table, self.rows(f.table), "id", f.buckets)

    def narrowed(self, schema: models.Schema) -> Encoding:
        """The same encoding for a model that reads a part of the schema."""
        read = {f.name for f in schema.all_features()}
        lengths = {sequence.name: sequence.length for sequence in schema.sequences}
        fields = [
            replace(f, read=f.name in read)
            for f in self.fields
            if f.name in read
            or (schema.content and f.name.split(".")[-1] == "category_id" and f.level in ("candidate", *lengths))
        ]
        tables = {f.table for f in fields}
        return Encoding(
            fields,
            lengths,
            {name: vocabulary for name, vocabulary in self.vocabularies.items() if name in tables},
            {name: edges for name, edges in self.edges.items() if name in tables},
            schema.content,
            schema.tasks,
        )

    def columns(self) -> dict[str, RawColumn]:
        """Raw columns that encoding reads."""
        found = {f.column: RawColumn(_KINDS[f.kind], f.level) for f in self.fields if f.source == "request"}
        found |= {HISTORY_ITEMS[name]: RawColumn("string", history_level(name)) for name in self.lengths}
        found["cand_item"] = RawColumn("string", "candidate")
        if self.content:
            found |= {name: RawColumn("string", "candidate") for name in ("cand_text_sha", "cand_image_sha")}
        if any(f.kind == "gap" for f in self.fields):
            found["event_time"] = RawColumn("int64", "request")
        return found

    def encode(self, raw: Raw, items: Items) -> Encoded:
        """Indices of raw columns.

        Args:
            raw: Raw columns of B requests.
            items: The item table, for attributes of items in histories.

        Returns:
            The indices, histories cut to their newest entries.
        """
        kept, counts, history = {}, {"candidate": raw.counts["candidate"]}, {}
        for name, length in self.lengths.items():
            kept[name], counts[name] = newest(raw.counts[name], length)
            history[name] = items.rows(raw.columns[HISTORY_ITEMS[name]][kept[name]])
        ids = {}
        for f in self.fields:
            if f.source == "item_table":
                found = items.attributes[f.column][history[f.level]].astype(np.int64)
            else:
                values = raw.columns[f.column]
                if f.level in kept:
                    values = values[kept[f.level]]
                if f.kind == "gap":
                    asked = np.repeat(raw.columns["event_time"], counts[f.level])
                    values = (asked - values) / 1e6
                found = self._indices(f, values)
            ids[f.name] = torch.from_numpy(found)
        size = int(counts["candidate"].sum())
        nothing = np.full(size, None, dtype=object)
        return Encoded(
            ids=ids,
            counts={name: torch.from_numpy(np.ascontiguousarray(n, dtype=np.int64)) for name, n in counts.items()},
            candidate_text=raw.columns.get("cand_text_sha", nothing),
            candidate_image=raw.columns.get("cand_image_sha", nothing),
            history_items=history,
        )

    def _indices(self, f: Field, values: Array) -> I64:
        if f.kind == "category":
            return lookup(self.vocabularies[f.table], values)
        if f.kind == "code":
            codes = np.asarray(values, dtype=np.int64) + 1
            return np.where((codes > 0) & (codes < CODES), codes, 0)
        return bucketise(self.edges[f.table], values)

    def save(self, folder: Path) -> None:
        """Write `schema.json` and `vocab/<table>.json` (keys in the order of their indices)."""
        (folder / "vocab").mkdir(parents=True, exist_ok=True)
        for table, vocabulary in self.vocabularies.items():
            keys = sorted(vocabulary, key=vocabulary.__getitem__)
            (folder / "vocab" / f"{table}.json").write_text(json.dumps(keys, ensure_ascii=False), encoding="utf-8")
        found = {
            "null_rule": "index 0: null, NaN, empty or unknown; bucket i of a number: index i + 1; numbers as float32",
            "fields": [asdict(f) for f in self.fields],
            "lengths": self.lengths,
            "tables": {table: self.rows(table) for table in sorted({f.table for f in self.fields})},
            "vocabularies": sorted(self.vocabularies),
            "edges": {table: [float(edge) for edge in edges] for table, edges in self.edges.items()},
            "content": asdict(self.content) if self.content else None,
            "tasks": list(self.tasks),
        }
        (folder / "schema.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Encoding:
        """Read what `save` wrote."""
        found = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
        vocabularies = {}
        for table in found["vocabularies"]:
            keys = json.loads((folder / "vocab" / f"{table}.json").read_text(encoding="utf-8"))
            vocabularies[table] = {key: index for index, key in enumerate(keys, start=1)}
        return cls(
            [Field(**f) for f in found["fields"]],
            found["lengths"],
            vocabularies,
            {table: np.array(edges, dtype=np.float32) for table, edges in found["edges"].items()},
            models.ContentWidths(**found["content"]) if found["content"] else None,
            found["tasks"],
        )


_KINDS: dict[str, Literal["string", "float", "int64"]] = {
    "category": "string",
    "number": "float",
    "code": "int64",
    "gap": "int64",
}
CODES = 16  # rows of a table of small integers: codes 0 to 14, and 0 for unknown


def newest(counts: I64, length: int) -> tuple[npt.NDArray[np.bool_], I64]:
    """Which entries of histories are among the newest `length` of their request, [N], and how many stay, [B]."""
    ends = np.repeat(np.cumsum(counts), counts)
    kept = ends - np.arange(len(ends)) <= length
    return kept, np.minimum(counts, length)
