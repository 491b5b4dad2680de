"""Metrics, intervals, slices, alignment and the gate's reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from trainer.evaluate.gate import blessed, judge
from trainer.evaluate.metrics import auc, auc_difference, bootstrap, calibration, log_loss, user_auc
from trainer.settings import GateSettings

SETTINGS = GateSettings.model_validate({"min_requests": 10, "min_positives": 5})


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
    found = auc_difference(good, bad, label, request, resamples=100, confidence=0.95)
    assert found is not None and 0 < found.low < found.value < found.high
    same = auc_difference(good, good, label, request, resamples=20, confidence=0.95)
    assert same is not None and same.low == same.value == same.high == 0
    assert auc_difference(good, bad, np.zeros(3000), request, resamples=5, confidence=0.9) is None


def test_bootstrap_resamples_whole_requests() -> None:
    request = np.repeat(np.arange(4), 3)
    weights: list[Any] = []
    bootstrap(lambda w: weights.append(w) or 0.0, request, 5, 0)  # type: ignore[func-returns-value]
    for w in weights:
        assert (w.reshape(4, 3) == w.reshape(4, 3)[:, :1]).all() and w.sum() == 12


def everything(requests: int, positives: int, mature: int = 0, calibration: float | None = None) -> dict[str, Any]:
    found = {"calibration_mature": calibration}
    return {"all": {"requests": requests, "positives": positives, "positives_mature": mature, "candidate": found}}


def figures(**values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "bundles": {"candidate": "a", "incumbent": "b", "popularity": "c"},
        "slices": {
            "all": {"requests": 100, "positives": 50, "positives_mature": 0, "candidate": {"calibration_mature": None}}
        },
        "over_incumbent": {"all": {"value": 0.01, "low": 0.001, "high": 0.02}},
        "over_popularity": {"all": {"value": 0.05, "low": 0.02, "high": 0.08}},
    }
    return {**found, **values}


def test_gate_blesses_and_says_why() -> None:
    checks = judge(figures(), SETTINGS)
    assert blessed(checks) and len(checks) == 4
    assert [check.passed for check in checks] == [True, True, True, None]
    assert all(check.said for check in checks)


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({"over_incumbent": {"all": {"value": 0.0, "low": -0.02, "high": 0.02}}}, "not worse than the incumbent"),
        ({"over_popularity": {"all": {"value": -0.01, "low": -0.02, "high": 0.0}}}, "better than popularity"),
        ({"slices": everything(3, 1)},
         "enough evidence"),
        ({"slices": everything(100, 50, 100, 2.0)},
         "calibrated on mature labels"),
    ],
)  # fmt: skip
def test_gate_refuses_with_the_reason(changed: dict[str, Any], failing: str) -> None:
    checks = judge(figures(**changed), SETTINGS)
    assert not blessed(checks)
    assert [check.name for check in checks if check.passed is False] == [failing]


def test_gate_does_not_judge_calibration_by_a_handful() -> None:
    assert blessed(judge(figures(slices=everything(100, 50, 9, 2.0)), SETTINGS))


def test_gate_without_an_incumbent() -> None:
    checks = judge(figures(bundles={"candidate": "a", "popularity": "c"}, over_incumbent=None), SETTINGS)
    assert blessed(checks)
    assert next(check for check in checks if "incumbent" in check.name).passed is None
