"""The bundle's probes: requests with the trainer's logits, scored again where they will be served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.errors import DataError
from serving.state import Version
from serving.triton import Control

if TYPE_CHECKING:
    from trainer.runtime.encoding import Array

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
        DataError: If a logit differs by more than `TOLERANCE`, is not finite on either side, or there are no probes.
    """
    from trainer.probes import read_probes

    count, worst = 0, 0.0
    for inputs, logits in read_probes(bundle):
        _require_finite("probes", logits)
        scored = triton.infer(version.triton_model, version.version, inputs, {BUNDLE_ONLY: True})
        _require_finite("served", scored)
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


def difference(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """The largest absolute difference of two sets of logits; infinite where they are not comparable.

    Example:
        >>> one, other = {"cvr_logit": np.float32([1.5, 2.0])}, {"cvr_logit": np.float32([1.5, np.nan])}
        >>> difference(one, one), difference(one, other), difference(one, {}), difference({}, {})
        (0.0, inf, inf, inf)
    """
    if not wanted or wanted.keys() != found.keys() or any(wanted[name].shape != found[name].shape for name in wanted):
        return float("inf")
    gaps = [np.abs(wanted[name].astype(np.float64) - found[name]).max(initial=0.0) for name in wanted]
    return float("inf") if not np.isfinite(gaps).all() else float(max(gaps))


def _require_finite(whose: str, logits: Mapping[str, Array]) -> None:
    """Refuse scores that rank nothing: NaN and infinities compare with anything, or with nothing."""
    for name, values in logits.items():
        wrong = np.asarray(values, dtype=np.float64)
        wrong = wrong[~np.isfinite(wrong)]
        if len(wrong) or not len(values):
            raise DataError(
                "a probe's scores are not finite" if len(wrong) else "a probe has no scores",
                field=f"{whose}.{name}",
                value=float(wrong[0]) if len(wrong) else None,
                remedy="train again from data without NaN, and make the bundle again",
            )
