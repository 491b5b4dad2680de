"""Schema, vocabularies and bucket edges from a window's training days, and the item table from its catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.dictionary import Column
from trainer.data.window import LABELS, Chunk, Window, chunks
from trainer.runtime.encoding import F32, HISTORY_ITEMS, Encoding, Field, Items, Level, bucketise, history_level
from trainer.runtime.models.schema import ContentWidths, Group
from trainer.settings import TrainSettings

# in the order of the schema
_GROUPS: tuple[tuple[Literal["request", "candidate"], Group], ...] = (
    ("request", "user"),
    ("request", "context"),
    ("candidate", "item"),
    ("candidate", "cross"),
)
SAMPLE_A_CHUNK, SAMPLE = 4096, 400_000
CHUNK = 2048


@dataclass
class Scan:
    """What one pass over the training days found.

    Args:
        keys: Table → key → times seen.
        samples: Table → numbers seen, a sample.
        first_time: Time of the first request, µs.
        last_time: Time of the last request, µs.
        positives: Positives of the first task among mature requests.
        negatives: Negatives of it.
        requests: Requests.
        mature: Mature ones among them.
        texts: Content hashes of texts of candidates.
        images: Content hashes of photos of candidates.
    """

    keys: dict[str, Counter[str]] = field(default_factory=dict)
    samples: dict[str, list[F32]] = field(default_factory=dict)
    first_time: int = 2**62
    last_time: int = 0
    positives: int = 0
    negatives: int = 0
    requests: int = 0
    mature: int = 0
    texts: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)


def fields_of(columns: Sequence[Column], settings: TrainSettings) -> list[Field]:
    """The features that a window's columns give.

    An id or a category is looked up, a number bucketised. A statistic of an item over some span is bucketised twice, as
    MARN wants it. A history tells of its items what it keeps itself, and what else of a candidate the catalogue has.

    Args:
        columns: The window's data dictionary.
        settings: Settings of training.
    """
    found: list[Field] = []
    for level, group in _GROUPS:
        for column in columns:
            if column.level == level and column.group == group:
                found += _fields_of_column(column, level, group, settings)
    shared = {f.table: f for f in found if f.level == "candidate"}
    for history in HISTORY_ITEMS:
        found += _fields_of_history(columns, history, shared, settings)
    return found


def _fields_of_column(column: Column, level: Level, group: Group, settings: TrainSettings) -> Iterator[Field]:
    name = column.domain
    if column.kind in ("id", "categorical"):
        yield Field(name, column.name, name, level, "category", group)
    elif column.kind == "numeric" and group == "item" and column.span_h:
        for buckets in (10, 100):
            yield Field(f"{name}@{buckets}", column.name, f"{name}@{buckets}", level, "number", group, buckets)
    elif column.kind == "numeric":
        yield Field(name, column.name, name, level, "number", group, settings.buckets)


def _fields_of_history(
    columns: Sequence[Column], history: str, shared: Mapping[str, Field], settings: TrainSettings
) -> Iterator[Field]:
    own = [column for column in columns if column.history == history]
    level = history_level(history)
    kept = {column.domain for column in own}
    for column in own:
        if column.kind in ("id", "categorical") and column.domain in shared:
            same = shared[column.domain]
            yield Field(f"{history}.{same.name}", column.name, same.table, level, "category", "item")
    for column in columns:
        if own and column.level == "item" and column.domain in shared and column.domain not in kept:
            same = shared[column.domain]
            yield Field(
                f"{history}.{same.name}", column.name, same.table, level, same.kind, "item", same.buckets,
                source="item_table",
            )  # fmt: skip
    for column in own:
        if column.kind == "type":
            yield Field(f"{history}.type", column.name, "history_type", level, "code", "item")
    for column in own:
        if column.kind == "time":
            yield Field(f"{history}.gap", column.name, "history_gap", level, "gap", "item", settings.buckets)


def scan(window: Window, fields: list[Field], task: str) -> Scan:
    """Read the training days once: keys, samples of numbers, times, base rate."""
    found = Scan()
    columns = {f.column for f in fields if f.source == "request"}
    columns |= {"event_time", "mature", "cand_text_sha", "cand_image_sha", "cand_item", LABELS[task]}
    for chunk in chunks(window.training, sorted(columns), CHUNK):
        _scan_chunk(found, chunk, fields, task)
    return found


def derive(
    window: Window, settings: TrainSettings, content: ContentWidths | None, before: Encoding | None = None
) -> tuple[Encoding, Scan]:
    """The encoding that a window's training days give.

    Args:
        window: The window.
        settings: Settings of training.
        content: Widths of the content tokens, or None.
        before: The incumbent's encoding in a warm start: its keys keep their order and stay while there is room, and
            its bucket edges stay, since buckets are keys of embeddings too.

    Returns:
        The encoding of all features, and what was seen.
    """
    window.require_training()
    fields = fields_of(window.columns, settings)
    seen = scan(window, fields, settings.tasks[0])
    tables = {f.table: f for f in reversed(fields)}
    vocabularies = {
        table: admit(seen.keys.get(table, Counter()), settings, before.vocabularies.get(table) if before else None)
        for table, f in tables.items()
        if f.kind == "category"
    }
    edges: dict[str, F32] = {}
    for table, f in tables.items():
        if f.kind in ("number", "gap"):
            old = before.edges.get(table) if before else None
            edges[table] = old if old is not None else edges_of(seen.samples.get(table, []), f.buckets)
    empty = {table for table, vocabulary in vocabularies.items() if not vocabulary}
    empty |= {table for table in edges if not seen.samples.get(table) and not (before and table in before.edges)}
    fields = [f for f in fields if f.table not in empty]
    present = {f.level for f in fields}
    lengths = {"buys": settings.max_buys, "behaviours": settings.max_behaviours}
    return (
        Encoding(
            fields,
            {name: length for name, length in lengths.items() if name in present},
            {table: vocabulary for table, vocabulary in vocabularies.items() if table not in empty},
            {table: found for table, found in edges.items() if table not in empty},
            content,
            settings.tasks,
        ),
        seen,
    )


def admit(seen: Counter[str], settings: TrainSettings, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """A vocabulary: the incumbent's keys in their order, then new keys seen `min_count` times, sorted.

    Rarer keys share row 0, which so learns what an unknown key is like. Beyond `max_rows` keys the ones leave that this
    window saw least; those it never saw go first.

    Args:
        seen: Key → times seen in the training days.
        settings: Settings of training.
        before: The incumbent's vocabulary.

    Returns:
        Key → index from 1 on.

    Example:
        >>> from trainer.settings import TrainSettings
        >>> admit(Counter({"b": 2, "a": 3, "rare": 1}), TrainSettings(), {"old": 1})
        {'old': 1, 'a': 2, 'b': 3}
    """
    old = sorted(before, key=before.__getitem__) if before else []
    known = set(old)
    keys = old + sorted(key for key, n in seen.items() if n >= settings.min_count and key not in known)
    if len(keys) > settings.max_rows:
        stay = set(sorted(keys, key=lambda key: (-seen[key], key))[: settings.max_rows])
        keys = [key for key in keys if key in stay]
    return {key: index for index, key in enumerate(keys, start=1)}


def edges_of(samples: list[F32], buckets: int) -> F32:
    """Edges of buckets that hold about as many numbers each.

    A number that is a bucket's share or more by itself, such as the zero of a rare event's count, gets a bucket of its
    own, and so do all numbers where they are few: quantiles alone would put a one into the zero's bucket.

    Args:
        samples: Numbers seen.
        buckets: Buckets wanted.

    Returns:
        Ascending edges; a number equal to an edge falls above it.

    Example:
        >>> edges_of([np.array([0] * 98 + [1, 4], dtype=np.float32)], 10).tolist()
        [1.0, 4.0]
    """
    if not samples:
        return np.empty(0, np.float32)
    values, counts = np.unique(np.concatenate(samples).astype(np.float32), return_counts=True)
    if len(values) <= buckets:
        return values[1:]
    heavy = counts * buckets >= counts.sum()
    shares = max(1, buckets - 2 * int(heavy.sum()))
    light = np.repeat(values[~heavy], counts[~heavy])
    found = np.quantile(light, np.linspace(0, 1, shares + 1)[1:-1]).astype(np.float32) if len(light) else values[:0]
    above = values[1:][heavy[:-1]]  # the next number after each heavy one
    edges: F32 = np.unique(np.concatenate([found, values[heavy], above]))
    edges = edges[edges > values[0]]
    if len(edges) >= buckets:
        edges = edges[np.unique(np.linspace(0, len(edges) - 1, buckets - 1).round().astype(int))]
    return edges


def item_table(path: Path, encoding: Encoding) -> Items:
    """The item table of a catalogue, attributes as indices of an encoding.

    Args:
        path: `items.parquet`.
        encoding: The encoding.
    """
    wanted = {f.column: f for f in encoding.fields if f.source == "item_table"}
    items: list[str] = []
    shas: dict[str, list[str]] = {"text_sha": [""], "image_sha": [""]}
    attributes: dict[str, list[npt.NDArray[np.int32]]] = {name: [np.zeros(1, np.int32)] for name in wanted}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(8192):
            items += batch.column("item_id").to_pylist()
            for name, list_ in shas.items():
                list_ += [sha or "" for sha in batch.column(name).to_pylist()]
            for name, f in wanted.items():
                attributes[name].append(_indices(encoding, f, batch.column(name)))
    return Items(
        {item: row for row, item in enumerate(items, start=1)},
        {name: np.concatenate(parts) for name, parts in attributes.items()},
        shas["text_sha"],
        shas["image_sha"],
    )


def _indices(encoding: Encoding, f: Field, column: pa.Array) -> npt.NDArray[np.int32]:
    if f.kind == "category":
        vocabulary = encoding.vocabularies[f.table]
        return np.array([vocabulary.get(key, 0) for key in column.to_pylist()], dtype=np.int32)
    numbers = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    return bucketise(encoding.edges[f.table], numbers).astype(np.int32)


def _scan_chunk(found: Scan, chunk: Chunk, fields: list[Field], task: str) -> None:
    times = chunk.column("event_time")
    if not len(times):
        return
    found.requests += len(times)
    found.first_time = min(found.first_time, int(times.min()))
    found.last_time = max(found.last_time, int(times.max()))
    found.mature += int(chunk.column("mature").sum())
    label, mature = chunk.column(LABELS[task]), np.repeat(chunk.column("mature"), chunk.counts("cand_item"))
    found.positives += int((label[mature] > 0).sum())
    found.negatives += int((label[mature] == 0).sum())
    for name, shas in (("cand_text_sha", found.texts), ("cand_image_sha", found.images)):
        if name in chunk.rows.schema.names:
            shas.update(sha for sha in pc.unique(chunk.rows.column(name).flatten()).to_pylist() if sha)
    rng = np.random.default_rng(chunk.index)
    sampled = set()
    for f in fields:
        if f.source == "item_table":
            continue
        column = chunk.rows.column(f.column)
        if f.kind == "category":
            flat = column.flatten() if pa.types.is_list(column.type) else column
            counter = found.keys.setdefault(f.table, Counter())
            for entry in pc.value_counts(flat).to_pylist():
                if entry["values"]:
                    counter[entry["values"]] += entry["counts"]
        elif f.kind in ("number", "gap") and (f.table, f.column) not in sampled:
            sampled.add((f.table, f.column))
            numbers = chunk.column(f.column)
            if f.kind == "gap":
                numbers = (np.repeat(times, chunk.counts(f.column)) - numbers) / 1e6
            numbers = np.asarray(numbers, dtype=np.float64).astype(np.float32)
            _sample(found.samples, f.table, numbers[np.isfinite(numbers)], rng)


def _sample(samples: dict[str, list[F32]], table: str, numbers: F32, rng: np.random.Generator) -> None:
    if len(numbers) > SAMPLE_A_CHUNK:
        numbers = rng.choice(numbers, SAMPLE_A_CHUNK, replace=False)
    if not len(numbers):
        return
    parts = samples.setdefault(table, [])
    parts.append(numbers)
    if sum(map(len, parts)) > SAMPLE:
        parts[:] = [rng.choice(np.concatenate(parts), SAMPLE // 2, replace=False)]
