"""A bundle's probes: requests of its window with the scores that it gave when it was made."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from features.errors import DataError
from trainer.data.window import Window, chunks, raw, select
from trainer.runtime.encoding import Encoding, Raw
from trainer.runtime.scorer import DTYPES, Scorer, as_inputs

PROBES = 64


def choose(window: Window, encoding: Encoding) -> list[Raw]:
    """Requests of the newest training day that has any, evenly spaced.

    Raises:
        DataError: If no training day shows anything.
    """
    for file in reversed(window.training):
        if found := list(itertools.islice(_evenly(file, encoding), PROBES)):
            return found
    raise DataError(
        "the window has no request to probe a bundle with",
        field="window",
        value=window.id,
        remedy="its training days show nothing: ingest and label requests, then build it again",
    )


def _evenly(file: Path, encoding: Encoding) -> Iterator[Raw]:
    """Requests of a day that show anything, evenly spaced."""
    columns = list(encoding.columns())
    every, seen = max(1, pq.read_metadata(file).num_rows // PROBES), 0
    for chunk in chunks([file], columns, 256):
        found = raw(chunk, columns)
        for row in range(chunk.rows.num_rows):
            if seen % every == 0 and found.counts["candidate"][row]:
                yield select(found, np.array([row]))
            seen += 1


def outputs_of(scorer: Scorer, probes: list[Raw]) -> list[str]:
    """Names of what a bundle returns."""
    with torch.inference_mode():
        return [f"{task}_logit" for task in scorer.ranker(scorer.batch(probes[0]))]


def write_probes(work: Path, probes: list[Raw]) -> None:
    """Score probes with a bundle and write both, a row a request: its raw columns and a list of logits an output.

    Args:
        work: The bundle.
        probes: The requests.

    Raises:
        DataError: If a score is not finite.
    """
    scorer = Scorer(work)
    types = {"float": pa.float32(), "int64": pa.int64(), "string": pa.string()}
    fields = []
    for i in scorer.inputs:
        fields.append((i.column, types[i.kind] if i.level == "request" else pa.list_(types[i.kind])))
    fields += [(name, pa.list_(pa.float32())) for name in scorer.outputs]
    rows = []
    for place, probe in enumerate(probes):
        inputs = as_inputs(probe, scorer.inputs)
        scores = scorer.score(inputs)
        for name, value in scores.items():
            if not np.isfinite(value).all():
                raise not_finite("a score", "probe", f"{name} of probe {place}")
        row: dict[str, object] = {name: value.tolist() for name, value in scores.items()}
        for i in scorer.inputs:
            values = inputs[i.name].tolist()
            row[i.column] = values[0] if i.level == "request" else values
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), work / "probes.parquet")


def read_probes(folder: Path) -> list[tuple[dict[str, npt.NDArray[np.generic]], dict[str, npt.NDArray[np.float32]]]]:
    """Read what `write_probes` wrote.

    Args:
        folder: The bundle.

    Returns:
        For each: the inputs of `Scorer.score`, and the scores that the trainer got, output → [C].
    """
    found = []
    info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    for row in pq.read_table(folder / "probes.parquet").to_pylist():
        inputs = {}
        for i in info["inputs"]:
            value = row[i["column"]]
            value = value if isinstance(value, list) else [value]
            if i["kind"] == "string":
                value = [text or "" for text in value]
            inputs[i["name"]] = np.array(value, dtype=DTYPES[i["kind"]])
        found.append((inputs, {name: np.array(row[name], dtype=np.float32) for name in info["outputs"]}))
    return found


def not_finite(what: str, field: str, value: str) -> DataError:
    """The error of a bundle that would hold or give a number that is not finite."""
    return DataError(
        f"a bundle whose scores cannot be ranked: {what} is not finite",
        field=field,
        value=value,
        remedy="mend what it was trained on and train again; nothing was written",
    )
