"""What an evaluation found, typed: what `evaluate` writes, the gate judges and the report shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from features.encoded import JsonObject
from features.errors import DataError
from trainer.evaluate.metrics import Interval

OTHERS = ("incumbent", "popularity")
COUNTS = ("requests", "candidates", "positives", "positives_mature")


@dataclass(frozen=True)
class Quality:
    """How well one bundle predicts the candidates of a slice.

    Args:
        auc: AUC; None where there is one class only.
        user_auc: AUC within users, weighted by their candidates; None where no user has both classes.
        log_loss: Mean cross-entropy; None where there are no candidates.
        calibration: Predicted over actual positives; None where there are none.
        calibration_mature: The same on mature labels alone.
    """

    auc: float | None
    user_auc: float | None
    log_loss: float | None
    calibration: float | None
    calibration_mature: float | None


@dataclass(frozen=True)
class DaySlice:
    """A part of the day.

    Args:
        requests: Requests.
        candidates: Candidates of them.
        positives: Positives, as known at the cut.
        positives_mature: Positives among mature labels.
        of: Role → how well its bundle predicts.
    """

    requests: int
    candidates: int
    positives: int
    positives_mature: int
    of: Mapping[str, Quality]


@dataclass(frozen=True)
class Comparison:
    """The candidate less another bundle, a slice each; None where a slice has one class only.

    Args:
        auc: Slice → difference of the AUC: above zero the candidate is better.
        log_loss: Slice → difference of the log loss: below zero the candidate is better.
    """

    auc: Mapping[str, Interval | None]
    log_loss: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Matching:
    """How well a task tells a listing's own text and photo from another's; half of the pairs are its own.

    Args:
        random: Accuracy against another listing's, drawn at random; None without pairs.
        random_pairs: Pairs behind it.
        same_category: Accuracy against another one's of the same category; None without pairs.
        same_category_pairs: Pairs behind it.
    """

    random: float | None
    random_pairs: int
    same_category: float | None
    same_category_pairs: int


@dataclass(frozen=True)
class Alignment:
    """How well text and photo of listings that training never showed are told to belong together.

    Args:
        products: Listings looked at.
        of: Task (`ita`, `tia`) → how well it does.
    """

    products: int
    of: Mapping[str, Matching]

    def to_json(self) -> JsonObject:
        """As JSON: `products`, and a block a task."""
        return {"products": self.products, **{task: asdict(found) for task, found in self.of.items()}}

    @classmethod
    def from_json(cls, found: JsonObject) -> Alignment:
        """Read what `to_json` wrote."""
        of = {
            str(task): Matching(
                _number(block["random"]),
                int(block["random_pairs"]),
                _number(block["same_category"]),
                int(block["same_category_pairs"]),
            )
            for task, block in found.items()
            if task != "products"
        }
        return cls(int(found["products"]), of)


@dataclass(frozen=True)
class Figures:
    """The figures of a day.

    Args:
        task: The label.
        window: The candidate's window.
        bundles: Role (`candidate`, `incumbent`, `popularity`) → bundle.
        mature_share: Share of the candidates whose label cannot change any more; None without candidates.
        slices: `all`, `new`, `uniform`, `uniform_new` → its figures.
        over: Role of another bundle → how the candidate compares with it.
        alignment: How well text and photo are told to belong together; None for a model without these tasks.
    """

    task: str
    window: str
    bundles: Mapping[str, str]
    mature_share: float | None
    slices: Mapping[str, DaySlice]
    over: Mapping[str, Comparison]
    alignment: Alignment | None

    def to_json(self) -> JsonObject:
        """As JSON: `slices.<slice>` has the counts and a block a role, `over_<role>` the differences of the AUC and
        `log_loss_over_<role>` those of the log loss.

        Raises:
            DataError: If a figure is not finite: JSON has no word for it, and no gate could judge it.
        """
        found: JsonObject = {
            "task": self.task,
            "window": self.window,
            "bundles": dict(self.bundles),
            "mature_share": self.mature_share,
            "slices": {name: _flat(one) for name, one in self.slices.items()},
            "alignment": None if self.alignment is None else self.alignment.to_json(),
        }
        for role, compared in self.over.items():
            found[f"over_{role}"] = _intervals(compared.auc)
            found[f"log_loss_over_{role}"] = _intervals(compared.log_loss)
        _refuse_what_is_not_finite(found)
        return found

    @classmethod
    def from_json(cls, found: JsonObject) -> Figures:
        """Read what `to_json` wrote; what else it holds is left aside.

        Raises:
            DataError: If a figure is missing, of another type, or not finite.
        """
        _refuse_what_is_not_finite(found)
        try:
            return cls(
                task=str(found["task"]),
                window=str(found["window"]),
                bundles={str(role): str(bundle) for role, bundle in found["bundles"].items()},
                mature_share=_number(found["mature_share"]),
                slices={str(name): _slice(one) for name, one in found["slices"].items()},
                over={role: _comparison(found, role) for role in OTHERS if found.get(f"over_{role}") is not None},
                alignment=None if found["alignment"] is None else Alignment.from_json(found["alignment"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                "the figures of the evaluation cannot be read",
                field="figures",
                value=f"{type(error).__name__}: {error}",
                remedy="run `freshrank evaluate` again",
            ) from error


def _flat(one: DaySlice) -> JsonObject:
    return {**{name: getattr(one, name) for name in COUNTS}, **{role: asdict(found) for role, found in one.of.items()}}


def _slice(found: JsonObject) -> DaySlice:
    of = {
        str(role): Quality(**{f.name: _number(block[f.name]) for f in fields(Quality)})
        for role, block in found.items()
        if role not in COUNTS
    }
    counts = {name: int(found[name]) for name in COUNTS}
    return DaySlice(**counts, of=of)


def _comparison(found: JsonObject, role: str) -> Comparison:
    return Comparison(_read(found[f"over_{role}"]), _read(found[f"log_loss_over_{role}"]))


def _intervals(found: Mapping[str, Interval | None]) -> dict[str, dict[str, float] | None]:
    return {name: None if interval is None else asdict(interval) for name, interval in found.items()}


def _read(found: JsonObject) -> dict[str, Interval | None]:
    return {
        str(name): None if one is None else Interval(float(one["value"]), float(one["low"]), float(one["high"]))
        for name, one in found.items()
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _refuse_what_is_not_finite(found: JsonObject) -> None:
    for path, value in _numbers(found):
        if not math.isfinite(value):
            raise DataError(
                "a figure of the evaluation is not finite",
                field=path,
                value=value,
                remedy="a model with such figures is not to be judged: train it again",
            )


def _numbers(found: object, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(found, Mapping):
        for key, value in found.items():
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(found, float):
        yield path, found
