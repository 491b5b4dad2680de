"""Metrics, intervals, slices, alignment and the gate's reasons."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from features.configuration import read
from features.errors import DataError
from tests.trainer.windows import Made, make_window
from trainer.data.window import Window
from trainer.evaluate.figures import Comparison, DaySlice, Figures, Quality
from trainer.evaluate.gate import blessed, judge
from trainer.evaluate.metrics import (
    Interval,
    auc,
    auc_gap,
    bootstrap,
    calibration,
    log_loss,
    log_loss_gap,
    paired_difference,
    user_auc,
)
from trainer.evaluate.run import evaluate
from trainer.popularity import make_popularity
from trainer.settings import GateSettings

SETTINGS = read(GateSettings, {"min_requests": 10, "min_positives": 5})


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(1, 3)), min_size=2, max_size=60))
def test_auc_is_sklearns(rows: list[tuple[int, bool, int]]) -> None:
    score, label, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    if 0 < label.sum() < len(label):
        assert auc(score, label) == pytest.approx(roc_auc_score(label, score))
        assert auc(score, label, weight) == pytest.approx(roc_auc_score(label, score, sample_weight=weight))
    else:
        assert auc(score, label) is None


def test_user_auc_ignores_differences_between_users() -> None:
    user = np.array([0, 0, 1, 1, 2])
    label, score = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.2, 5.0, 6.0, -9.0])
    assert user_auc(score, label, user) == 1
    assert user_auc(-score, label, user) == 0
    assert user_auc(score[4:], label[4:], user[4:]) is None


def test_user_auc_weighs_users_by_their_candidates() -> None:
    """Six candidates ordered rightly and two wrongly are 6/8, not one user of two."""
    user = np.array([0] * 6 + [1] * 2)
    label = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    score = np.arange(8.0)
    assert user_auc(score, label, user) == pytest.approx(0.75)


def test_log_loss_and_calibration() -> None:
    logit, label = np.array([0.0, 2.0, -1.0, 30.0]), np.array([0, 1, 0, 1])
    p = 1 / (1 + np.exp(-logit))
    assert log_loss(logit, label) == pytest.approx(sklearn_log_loss(label, p), abs=1e-6)
    assert calibration(logit, label) == pytest.approx(p.sum() / 2)
    assert calibration(logit, np.zeros(4)) is None


def test_interval_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    request = np.repeat(np.arange(300), 10)
    label = rng.random(3000) < 0.2
    good, bad = label + rng.normal(0, 1, 3000), label + rng.normal(0, 3, 3000)
    found = paired_difference(auc_gap, good, bad, label, request, resamples=100, confidence=0.95)
    assert found is not None and 0 < found.low < found.value < found.high
    same = paired_difference(auc_gap, good, good, label, request, resamples=20, confidence=0.95)
    assert same is not None and same.low == same.value == same.high == 0
    assert paired_difference(auc_gap, good, bad, np.zeros(3000), request, resamples=5, confidence=0.9) is None


def test_interval_of_a_log_loss_difference() -> None:
    """Predictions near the truth have the lower log loss, and what is too sure of itself has not, whatever its AUC."""
    rng = np.random.default_rng(0)
    request = np.repeat(np.arange(300), 10)
    truth = rng.normal(-2, 1, 3000)
    label = rng.random(3000) < 1 / (1 + np.exp(-truth))
    found = paired_difference(log_loss_gap, truth, 5 * truth, label, request, resamples=100, confidence=0.95)
    assert found is not None and found.low < found.value < found.high < 0
    assert found.value == pytest.approx((log_loss(truth, label) or 0) - (log_loss(5 * truth, label) or 0))
    assert paired_difference(log_loss_gap, truth, truth, np.ones(3000), request, resamples=5, confidence=0.9) is None


def test_bootstrap_resamples_whole_requests() -> None:
    request = np.repeat(np.arange(4), 3)
    weights: list[Any] = []
    bootstrap(lambda w: weights.append(w) or 0.0, request, 5, 0)  # type: ignore[func-returns-value]
    for w in weights:
        assert (w.reshape(4, 3) == w.reshape(4, 3)[:, :1]).all() and w.sum() == 12


def slice_of(**values: Any) -> DaySlice:
    """100 requests, 50 positives, all unripe; the candidate predicts 10% too much."""
    found: dict[str, Any] = {"requests": 100, "candidates": 1000, "positives": 50, "positives_mature": 0}
    candidate = Quality(0.7, 0.6, 0.18, values.pop("calibration", 1.1), values.pop("mature", None))
    rivals = {"incumbent": Quality(0.69, 0.6, 0.2, 1.0, None), "popularity": Quality(0.65, 0.6, 0.2, 1.0, None)}
    return DaySlice(**found | values, of={"candidate": candidate, **rivals})


GOOD = Comparison({"all": Interval(0.01, 0.001, 0.02)}, {"all": Interval(-0.001, -0.003, 0.001)})
ROLES = ("candidate", "incumbent", "popularity")


def figures(everything: DaySlice | None = None, roles: tuple[str, ...] = ROLES, **over: Comparison | None) -> Figures:
    compared = {"incumbent": GOOD, "popularity": GOOD, **over}
    return Figures(
        "cvr", "w", {role: role for role in roles}, 0.0, {"all": everything or slice_of()},
        {role: found for role, found in compared.items() if found is not None and role in roles}, None,
    )  # fmt: skip


def auc_of(*interval: float) -> Comparison:
    return Comparison({"all": Interval(*interval)}, GOOD.log_loss)


def log_loss_of(*interval: float) -> Comparison:
    return Comparison(GOOD.auc, {"all": Interval(*interval)})


NOTHING = Comparison({"all": None}, {"all": None})


def test_gate_blesses_and_says_why() -> None:
    checks = judge(figures(), SETTINGS)
    assert blessed(checks) and len(checks) == 6
    assert [check.outcome for check in checks] == ["holds"] * 6
    assert all(check.said for check in checks)


@pytest.mark.parametrize(
    ("found", "failing"),
    [
        (figures(incumbent=auc_of(0.0, -0.02, 0.02)), "not worse than the incumbent"),
        (figures(popularity=auc_of(-0.01, -0.02, 0.0)), "better than popularity"),
        (figures(popularity=log_loss_of(0.001, -0.01, 0.01)), "log loss no higher than popularity's"),
        (figures(incumbent=log_loss_of(0.001, -0.001, 0.0041)), "log loss not higher than the incumbent's"),
        (figures(slice_of(requests=3, positives=1)), "enough evidence"),
        (figures(slice_of(positives_mature=100, mature=2.0)), "calibrated"),
        (figures(slice_of(positives_mature=100, mature=2.0, calibration=1.0)), "calibrated"),
        (figures(slice_of(positives_mature=9, mature=1.0, calibration=2.0)), "calibrated"),
    ],
)
def test_gate_refuses_with_the_reason(found: Figures, failing: str) -> None:
    checks = judge(found, SETTINGS)
    assert not blessed(checks)
    assert [check.name for check in checks if check.outcome == "fails"] == [failing]
    assert all(check.outcome == "holds" for check in checks if check.name != failing)


def test_calibration_is_judged_on_all_labels_where_few_are_mature() -> None:
    """A handful of mature positives says little; that they are few is no leave to be wrong."""
    few = judge(figures(slice_of(positives_mature=9, mature=2.0)), SETTINGS)[-1]
    assert few.passed and "all labels as known at the cut" in few.said and "9 positives are mature" in few.said
    many = judge(figures(slice_of(positives_mature=100, mature=1.0, calibration=2.0)), SETTINGS)[-1]
    assert many.passed and "on mature labels, 100 positives" in many.said


def test_gate_without_an_incumbent_does_not_ask_for_one() -> None:
    checks = judge(figures(roles=("candidate", "popularity")), SETTINGS)
    assert blessed(checks)
    asked = [check for check in checks if "incumbent" in check.name]
    assert [check.outcome for check in asked] == ["not asked"] * 2
    assert all("no incumbent" in check.reason for check in asked)


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (figures(popularity=None), ("better than popularity", "log loss no higher than popularity's")),
        (figures(roles=("candidate", "incumbent")), ("better than popularity", "log loss no higher than popularity's")),
        (figures(popularity=NOTHING), ("better than popularity", "log loss no higher than popularity's")),
        (figures(incumbent=None), ("not worse than the incumbent", "log loss not higher than the incumbent's")),
        (figures(incumbent=NOTHING), ("not worse than the incumbent", "log loss not higher than the incumbent's")),
        (figures(slice_of(calibration=None)), ("calibrated",)),
        (figures(slice_of(positives_mature=100, mature=None)), ("calibrated",)),
    ],
    ids=["no comparison", "no popularity", "one class", "no comparison with the incumbent",
         "one class beside the incumbent", "no positive", "no mature positive"],
)  # fmt: skip
def test_a_check_that_cannot_be_made_is_not_passed(found: Figures, names: tuple[str, ...]) -> None:
    checks = judge(found, SETTINGS)
    assert not blessed(checks)
    assert tuple(check.name for check in checks if check.outcome == "not judged") == names
    assert not any(check.passed for check in checks if check.name in names)


def test_nothing_judged_is_not_blessed() -> None:
    nothing = Figures("cvr", "w", {"candidate": "a", "popularity": "b"}, None, {}, {}, None)
    assert not blessed(judge(nothing, SETTINGS)) and not blessed([])


def test_figures_survive_a_file() -> None:
    found = figures()
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Figures.from_json(json.loads(text)) == found
    assert json.loads(text)["over_popularity"]["all"]["low"] == 0.001
    assert json.loads(text)["slices"]["all"]["candidate"]["auc"] == 0.7


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_figures_that_are_not_finite_are_refused(number: float) -> None:
    bad = figures(slice_of(calibration=number))
    with pytest.raises(DataError, match=r"not finite: slices.all.candidate.calibration"):
        bad.to_json()
    read = figures().to_json()
    read["over_incumbent"]["all"]["low"] = number
    with pytest.raises(DataError, match=r"not finite: over_incumbent.all.low"):
        Figures.from_json(read)
    del read["over_incumbent"], read["slices"]
    with pytest.raises(DataError, match="cannot be read"):
        Figures.from_json(read)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_no_rank(number: float) -> None:
    """Sorted first or last, NaN among the positives would make the AUC better than it is."""
    label, user = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    good, bad = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, number, 0.3, 0.4])
    asked: list[Any] = [
        lambda: auc(bad, label),
        lambda: user_auc(bad, label, user),
        lambda: log_loss(bad, label),
        lambda: calibration(bad, label),
        lambda: paired_difference(auc_gap, good, bad, label, user, resamples=10, confidence=0.9),
        lambda: paired_difference(auc_gap, bad, good, label, user, resamples=10, confidence=0.9),
        lambda: paired_difference(log_loss_gap, good, bad, label, user, resamples=10, confidence=0.9),
    ]
    for one in asked:
        with pytest.raises(DataError, match="at place 1, 1 of 4 are not finite"):
            one()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A tiny window."""
    return make_window(tmp_path_factory.mktemp("window"), requests_a_day=6, days=2, items=20, candidates=4)


@pytest.fixture(scope="module")
def popular(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its popularity bundle."""
    folder = tmp_path_factory.mktemp("bundles")
    return folder / make_popularity(Window(made.window), folder)


def test_evaluation_refuses_a_bundle_whose_scores_are_not_finite(made: Made, popular: Path, tmp_path: Path) -> None:
    weights = load_file(popular / "embeddings" / "popularity.safetensors")
    row = json.loads((popular / "vocab" / "item_id.json").read_text(encoding="utf-8")).index("i3") + 1
    weights["item_id"][row] = math.nan
    broken = tmp_path / "broken"
    shutil.copytree(popular, broken)
    save_file(weights, broken / "embeddings" / "popularity.safetensors")
    window = Window(made.window)
    showed = [r["request_id"] for r in pq.read_table(window.evaluation[0]).to_pylist() if "i3" in r["cand_item"]]
    assert showed
    with pytest.raises(DataError, match="the candidate's bundle broken gives scores that are not finite") as told:
        evaluate(window, window.evaluation, {"candidate": broken, "popularity": popular}, None, "cvr", SETTINGS)
    assert told.value.value == showed


def edited(made: Made, root: Path, name: str, value: Any) -> Window:
    """The window with another evaluation day: a column changed, or no request at all."""
    folder = root / "window"
    shutil.copytree(made.window, folder)
    file = next((folder / "eval").iterdir())
    table = pq.read_table(file)
    if name == "nothing":
        table = table[:0]
    else:
        column = [[value] * len(v) if isinstance(v, list) else value for v in table[name].to_pylist()]
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(column, table.schema.field(at).type))
    pq.write_table(table, file)
    return Window(folder)


@pytest.mark.parametrize(
    ("name", "value", "refusal"),
    [
        ("purchased", 1, "one class only: 24 of 24 candidates are positives"),
        ("purchased", 0, "one class only: 0 of 24 candidates are positives"),
        ("nothing", None, "nothing was shown"),
    ],
)
def test_a_day_without_both_classes_is_not_blessed(
    name: str, value: Any, refusal: str, made: Made, popular: Path, tmp_path: Path
) -> None:
    window = edited(made, tmp_path, name, value)
    bundles = {"candidate": popular, "incumbent": popular, "popularity": popular}
    found, _ = evaluate(window, window.evaluation, bundles, None, "cvr", SETTINGS)
    lenient = {"min_requests": 1, "min_positives": 1, "max_auc_loss": 1.0, "over_popularity": -1.0}
    lenient |= {"max_calibration_error": 1e9, "max_log_loss_over_popularity": 1e9, "max_log_loss_rise": 1e9}
    checks = judge(Figures.from_json(found.to_json()), read(GateSettings, lenient))
    assert not blessed(checks)
    assert sum(refusal in check.said for check in checks) == 4


def test_the_popularity_of_a_day_is_no_better_than_itself(made: Made, popular: Path) -> None:
    window = Window(made.window)
    bundles = {"candidate": popular, "incumbent": popular, "popularity": popular}
    found, _ = evaluate(window, window.evaluation, bundles, None, "cvr", SETTINGS)
    for compared in found.over.values():
        assert compared.auc["all"] == compared.log_loss["all"] == Interval(0.0, 0.0, 0.0)
