"""Schema, vocabularies and bucket edges from a window's training days, and the item table from its catalogue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.data.window import LABELS, Chunk, Window, chunks
from trainer.runtime.encoding import F32, PREFIXES, Encoding, Field, Items, Level, bucketise
from trainer.runtime.models.schema import Content, Group
from trainer.settings import TrainSettings

NAMES = {"i_shop": "shop_id", "i_brand": "brand_id", "i_category": "category_id", "cand_item": "item_id"}
# columns of items.parquet that histories get as attributes, and the candidates' columns they correspond to
CATALOGUE = {name: f"i_{name}" for name in ("shop", "brand", "category", "zone", "price", "weight")}
STATISTIC = re.compile(r"^i_.*_\d+[dh]$")
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


def fields_of(schema: pa.Schema, catalogue: pa.Schema, settings: TrainSettings) -> list[Field]:
    """The features that a window's columns give.

    A category is a string column, a number any other. A statistic of an item over some days or hours (`i_clicks_7d`)
    is bucketised twice, as MARN wants it.

    Args:
        schema: Columns of the requests.
        catalogue: Columns of `items.parquet`.
        settings: Settings of training.
    """
    found = [Field("user_id", "user_id", "user_id", "request", "category", "user")]
    groups: tuple[tuple[str, Level, Group], ...] = (
        ("u_", "request", "user"),
        ("ctx_", "request", "context"),
        ("cand_item", "candidate", "item"),
        ("i_", "candidate", "item"),
        ("x_", "candidate", "cross"),
    )
    for prefix, level, group in groups:
        for column in schema.names:
            if column.startswith(prefix):
                found += _fields_of_column(schema, column, level, group, settings)
    candidates = {f.column: f for f in found if f.level == "candidate"}
    own = {"buy_category": "i_category", "buy_shop": "i_shop"}
    for name, prefix in PREFIXES.items():
        if f"{prefix}_item" not in schema.names:
            continue
        level = _level(name)
        found.append(Field(f"{name}.item_id", f"{prefix}_item", "item_id", level, "category", "item"))
        listed = {column: mirror for column, mirror in own.items() if column in schema.names and column[:3] == prefix}
        for column, mirror in listed.items():
            if mirror in candidates:
                same = candidates[mirror]
                found.append(Field(f"{name}.{same.name}", column, same.table, level, "category", "item"))
        for column, mirror in CATALOGUE.items():
            if mirror in candidates and mirror not in listed.values() and column in catalogue.names:
                same = candidates[mirror]
                found.append(
                    Field(
                        f"{name}.{same.name}", f"item:{same.name}", same.table, level, same.kind, "item", same.buckets
                    )
                )
        if f"{prefix}_type" in schema.names:
            found.append(Field(f"{name}.type", f"{prefix}_type", "history_type", level, "code", "item"))
        if f"{prefix}_time" in schema.names:
            found.append(Field(f"{name}.gap", f"{prefix}_time", "history_gap", level, "gap", "item", settings.buckets))
    return found


def scan(window: Window, fields: list[Field], task: str) -> Scan:
    """Read the training days once: keys, samples of numbers, times, base rate."""
    found = Scan()
    columns = {f.column for f in fields if not f.column.startswith("item:")}
    columns |= {"event_time", "mature", "cand_text_sha", "cand_image_sha", "cand_item", LABELS[task]}
    for chunk in chunks(window.training, sorted(columns), CHUNK):
        _scan_chunk(found, chunk, fields, task)
    return found


def derive(
    window: Window, settings: TrainSettings, content: Content | None, before: Encoding | None = None
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
    fields = fields_of(window.arrow_schema(), pq.read_schema(window.folder / "items.parquet"), settings)
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
    wanted = {f.column[5:]: f for f in encoding.fields if f.column.startswith("item:")}
    source = {NAMES.get(mirror, mirror): column for column, mirror in CATALOGUE.items()}
    items: list[str] = []
    shas: dict[str, list[str]] = {"text_sha": [""], "image_sha": [""]}
    attributes: dict[str, list[npt.NDArray[np.int32]]] = {name: [np.zeros(1, np.int32)] for name in wanted}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(8192):
            items += batch.column("item_id").to_pylist()
            for name, list_ in shas.items():
                list_ += [sha or "" for sha in batch.column(name).to_pylist()]
            for name, f in wanted.items():
                attributes[name].append(_indices(encoding, f, batch.column(source[name])))
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


def _fields_of_column(
    schema: pa.Schema, column: str, level: Level, group: Group, settings: TrainSettings
) -> Iterator[Field]:
    kind = schema.field(column).type
    if pa.types.is_list(kind):
        kind = kind.value_type
    name = NAMES.get(column, column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield Field(name, column, name, level, "category", group)
    elif pa.types.is_null(kind):
        return
    elif STATISTIC.match(column):
        for buckets in (10, 100):
            yield Field(f"{name}@{buckets}", column, f"{name}@{buckets}", level, "number", group, buckets)
    else:
        yield Field(name, column, name, level, "number", group, settings.buckets)


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
        if f.column.startswith("item:"):
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


def _level(name: str) -> Level:
    return "buys" if name == "buys" else "behaviours"
