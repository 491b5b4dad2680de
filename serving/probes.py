"""The bundle's probes: requests with the trainer's logits, scored again where they will be served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import DataError
from serving.state import Version
from serving.triton import Control

TOLERANCE = 1e-4  # of a logit; the arithmetic is the same, its order need not be
BUNDLE_ONLY = "bundle_only"


@dataclass(frozen=True)
class Probe:
    """One probe.

    Args:
        inputs: Input name → values, as the served model wants them.
        logits: Output name → the trainer's logits, [C].
    """

    inputs: dict[str, npt.NDArray[Any]]
    logits: dict[str, npt.NDArray[np.float32]]


def read_probes(bundle: Path) -> Iterator[Probe]:
    """The probes of a bundle: `probes.parquet`, a row a request, raw columns and a list of logits for each output.

    Raises:
        DataError: If a column is missing.
    """
    import pyarrow.parquet as pq

    from trainer.scoring.encoding import Encoding
    from trainer.scoring.scorer import inputs_of

    specs = inputs_of(Encoding.load(bundle))
    rows = pq.read_table(bundle / "probes.parquet").to_pylist()
    for row in rows:
        missing = [spec.column for spec in specs if spec.column not in row]
        outputs = [name for name in row if name.endswith("_logit")]
        if missing or not outputs:
            raise DataError(
                "the bundle's probes lack a column",
                field="probes.parquet",
                value=missing[0] if missing else "*_logit",
                remedy="make the bundle again",
            )
        yield Probe(
            {spec.name: to_array(row[spec.column], spec.kind) for spec in specs},
            {name: np.array(row[name], dtype=np.float32) for name in outputs},
        )


def to_array(value: Any, kind: str) -> npt.NDArray[Any]:
    """A raw value or list as an input: a missing string is empty, a missing number NaN, a missing integer -1."""
    values = value if isinstance(value, list | tuple | np.ndarray) else [value]
    if kind == "string":
        found = np.empty(len(values), dtype=object)
        found[:] = [(text or "").encode() for text in values]
        return found
    if kind == "int64":
        return np.array([-1 if number is None else int(number) for number in values], dtype=np.int64)
    return np.array([np.nan if number is None else number for number in values], dtype=np.float32)


def probe(bundle: Path, version: Version, triton: Control) -> tuple[int, float]:
    """Score a bundle's probes in Triton.

    Args:
        bundle: The bundle.
        version: Where it is loaded.
        triton: Triton.

    Returns:
        How many probes there were, and the largest difference of a logit from the trainer's.

    Raises:
        DataError: If a logit differs by more than `TOLERANCE`, or there are no probes.
    """
    count, worst = 0, 0.0
    for each in read_probes(bundle):
        scored = triton.infer(version.triton_model, version.version, each.inputs, {BUNDLE_ONLY: True})
        worst = max(worst, difference(each.logits, scored))
        count += 1
    if not count or not worst <= TOLERANCE:
        raise DataError(
            "the served scores are not the trainer's",
            field="probe_max_abs",
            value=worst if count else "no probes",
            remedy=f"they may differ by {TOLERANCE}; make the bundle again",
        )
    return count, worst


def difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """The largest absolute difference of two sets of logits; infinite where they have other names, shapes or NaN."""
    if wanted.keys() != found.keys() or any(wanted[name].shape != found[name].shape for name in wanted):
        return float("inf")
    gaps = [np.abs(wanted[name].astype(np.float64) - found[name]).max(initial=0.0) for name in wanted]
    return float("inf") if not np.isfinite(gaps).all() else float(max(gaps))
