"""The bundle's probes: requests with the trainer's logits, scored again where they will be served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError
from serving.state import Version
from serving.triton import Control

TOLERANCE = 1e-4  # of a logit; the arithmetic is the same, its order need not be
BUNDLE_ONLY = "bundle_only"


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
    from trainer.bundle import read_probes

    count, worst = 0, 0.0
    for inputs, logits in read_probes(bundle):
        scored = triton.infer(version.triton_model, version.version, inputs, {BUNDLE_ONLY: True})
        worst = max(worst, difference(logits, scored))
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
