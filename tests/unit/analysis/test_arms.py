"""Arms of any name, what they brought and how they differ, as the event log tells it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from features.errors import NotReadyError, UsageError
from features.events import impression_id
from features.times import HOUR, MINUTE
from freshrank.analysis.arms import Effect, experiments
from freshrank.analysis.calibration import calibrations
from freshrank.analysis.impressions import Span
from tests.lake import Lake, us
from tests.serving.bundles import make_bundle
from tests.serving.lived import DAY

GREEN, RED = "größer 🍏", 'it\'s "red"'
SPAN, HORIZON = Span.of_day(DAY), 24 * HOUR


def tell(root: Path, users: int, bought: dict[str, int]) -> Lake:
    """Each user of an arm sees a list; in an arm every n-th of them buys, three minutes later."""
    lake = Lake(root)
    for number in range(users):
        for arm, every in bought.items():
            at, request = us("01-09 12:00") + number * MINUTE, f"{arm} {number}"
            lake.show(request, f"{arm} {number}", ["a", "b"], at, policy="model", experiments={"fruit": arm})
            if every and number % every == 0:
                lake.buy(f"{arm} {number}", "a", at + 3 * MINUTE, request=request, amount=250)
    return lake


def test_arms_are_those_that_impressions_name(tmp_path: Path) -> None:
    lake = tell(tmp_path, 8, {GREEN: 2, RED: 4})
    lake.click(f"{RED} 1", "b", us("01-09 13:00"))
    both = {"fruit": "dice", "other": GREEN}
    lake.show("random", "eve", ["a"], us("01-09 14:00"), policy="uniform", experiments=both)
    lake.show("fallen", "eve", ["a"], us("01-09 14:01"), policy="popularity", experiments={"fruit": RED})
    lake.show("nobody", "eve", ["a"], us("01-09 14:02"), policy="model")
    lake.show("before", "eve", ["a"], us("01-08 23:59"), policy="model", experiments={"fruit": RED})
    lake.buy(f"{GREEN} 1", "a", us("01-10 02:00"))
    fruit, other = experiments(lake.write(), SPAN, HORIZON)
    assert (fruit.name, other.name, [arm.name for arm in other.arms]) == ("fruit", "other", [GREEN])
    arms = {arm.name: arm for arm in fruit.arms}
    assert set(arms) == {GREEN, RED, "dice"}
    green, red = arms[GREEN], arms[RED]
    assert (green.requests, green.users, green.conversions, green.purchases, green.gmv_minor) == (8, 8, 4, 4, 1000)
    assert green.conversion == 0.5, "what became known at the cut does not count"
    assert (red.requests, red.users, red.fallbacks, red.clicks, red.purchases) == (9, 9, 1, 1, 2)
    assert arms["dice"].logs_only and not red.logs_only


def test_a_clear_difference_is_found_whatever_the_arms_are_called(tmp_path: Path) -> None:
    lake = tell(tmp_path, 60, {GREEN: 1, RED: 4, "never": 0})
    for number in range(5):
        at, dice = us("01-09 15:00"), {"fruit": "dice"}
        lake.show(f"d{number}", f"dice {number}", ["a"], at, policy="uniform", experiments=dice)
    (fruit,) = experiments(lake.write(), SPAN, HORIZON)
    found = fruit.differences(RED)
    assert set(found) == {f"{GREEN}_minus_{RED}", f"never_minus_{RED}"}, "an arm that only logs is left out"
    effect = found[f"{GREEN}_minus_{RED}"]["conversion"]
    assert effect.relative == pytest.approx(3.0)
    assert effect.low is not None and 0 < effect.low < 3.0
    assert effect.p is not None and effect.p < 0.001
    assert fruit.differences("never")[f"{RED}_minus_never"]["gmv"] == Effect(None, None, None, None)
    with pytest.raises(UsageError, match="no such arm"):
        fruit.differences("blue")


def test_a_log_that_is_not_complete_tells_nothing(tmp_path: Path) -> None:
    layout = tell(tmp_path, 1, {RED: 1}).write(complete_until=us("01-09 20:00"))
    with pytest.raises(NotReadyError, match="not complete"):
        experiments(layout, SPAN, HORIZON)


def test_calibration_is_of_each_arm_and_bundle(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.layout.bundles.mkdir(parents=True)
    bundle = make_bundle(lake.layout.bundles, "one", probes=1)
    logit = {chance: math.log(chance / (1 - chance)) for chance in (0.2, 0.6)}
    for number in range(20):
        for arm, chance, who in ((GREEN, 0.2, bundle), (RED, 0.6, bundle), (RED, 0.6, "elsewhere")):
            request = f"{arm} {who} {number}"
            items = [{"item_id": "a", "position": 0, "score": logit[chance]}]
            lake.add(
                "impressions", "ann", us("01-09 12:00") + number, event_id=impression_id(request), request_id=request,
                user_id="ann", items=items, experiments={"fruit": arm}, bundle_id=who,
            )  # fmt: skip
            if number < 4:
                lake.buy("ann", "a", us("01-09 13:00"), request=request)
    green, red = calibrations(lake.write(), SPAN, HORIZON, buckets=4)
    assert (green.arm, green.bundle, green.task, green.mature) == (GREEN, bundle, "cvr", False)
    assert (green.candidates, green.positives, len(green.buckets)) == (20, 4, 4)
    assert green.ratio == pytest.approx(1.0)
    assert red.ratio == pytest.approx(3.0)
    assert [bucket.predicted for bucket in red.buckets] == pytest.approx([0.6] * 4)
