"""Experiments as the event log tells them: what each arm brought, and how arms differ."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.errors import UsageError
from features.facts import CLICK, PURCHASE
from features.layout import Layout
from freshrank.analysis.impressions import Span
from freshrank.analysis.outcomes import outcomes
from serving.state import POPULARITY

UNIFORM = "uniform"  # the policy of lists in random order
MEASURES = ("conversion", "purchases", "gmv")


@dataclass(frozen=True)
class ArmOutcome:
    """What an arm brought.

    Args:
        name: Its name.
        policies: What ordered its lists.
        bundles: What scored them.
        requests: Lists shown.
        users: Users who saw them.
        fallbacks: Lists that popularity ordered because no bundle could score.
        clicks: Shown items that were clicked.
        conversions: Requests with a purchase.
        purchases: Shown items that were bought.
        gmv_minor: What was paid for them, minor units.
    """

    name: str
    policies: tuple[str, ...]
    bundles: tuple[str, ...]
    requests: int
    users: int
    fallbacks: int
    clicks: int
    conversions: int
    purchases: int
    gmv_minor: int

    @property
    def logs_only(self) -> bool:
        """Whether it ranks at random, to log without bias: it is compared with no other arm."""
        return self.policies == (UNIFORM,)

    @property
    def conversion(self) -> float:
        """Share of requests with a purchase."""
        return self.conversions / self.requests


@dataclass(frozen=True)
class Effect:
    """A ratio of means relative to the control's, less one; with a 95% interval. None: it cannot be told.

    Args:
        relative: The effect: 0.1 is ten percent more.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p: Probability of an effect at least as large where there is none.
    """

    relative: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class ExperimentOutcome:
    """An experiment of a span.

    Args:
        name: Its name.
        arms: Its arms, by name.
        by_user: A row for each arm and user: `arm, user_id, requests, conversion, purchases, gmv` (sums).
    """

    name: str
    arms: tuple[ArmOutcome, ...]
    by_user: pa.Table = field(repr=False, compare=False)

    def differences(self, control: str) -> dict[str, dict[str, Effect]]:
        """Each other arm against a control, per request; an arm that only logs is left out.

        Args:
            control: The arm that the others are compared with.

        Returns:
            `<arm>_minus_<control>` → measure (`conversion`, `purchases`, `gmv`) → effect. An arm with fewer than two
            users has none.

        Raises:
            UsageError: If the experiment has no such arm.
        """
        arms = {arm.name: arm for arm in self.arms}
        if control not in arms:
            raise UsageError("no such arm", field="control", value=control, remedy=f"use one of {', '.join(arms)}")
        able = [name for name, arm in arms.items() if arm.users > 1 and not arm.logs_only]
        if control not in able:
            return {}
        return {f"{name}_minus_{control}": _effects(self.by_user, name, control) for name in able if name != control}


def experiments(layout: Layout, span: Span, horizon_us: int) -> tuple[ExperimentOutcome, ...]:
    """The experiments that requests of a span were part of, with all their arms, by name.

    Args:
        layout: Where the log lies.
        span: Which requests, and when what followed must have been known.
        horizon_us: What comes later after a request is not credited to it, µs.

    Raises:
        NotReadyError: If the event log does not hold every fact known by then.
    """
    with outcomes(layout, span, horizon_us) as con:
        con.execute(
            f"""CREATE OR REPLACE TABLE results AS
            WITH followed AS (
                SELECT request_id, count(*) FILTER (kind = {CLICK}) AS clicks,
                    count(*) FILTER (kind = {PURCHASE}) AS purchases,
                    sum(amount_minor) FILTER (kind = {PURCHASE}) AS gmv
                FROM credited GROUP BY request_id)
            SELECT experiment, arm, user_id, policy, bundle_id, coalesce(clicks, 0) AS clicks,
                coalesce(purchases, 0) AS purchases, coalesce(gmv, 0) AS gmv
            FROM assigned JOIN requests USING (request_id) LEFT JOIN followed USING (request_id)"""
        )
        rows = con.execute(
            f"""SELECT experiment, arm, list_sort(list(DISTINCT policy)), list_sort(list(DISTINCT bundle_id)
                FILTER (bundle_id IS NOT NULL)), count(*), count(DISTINCT user_id),
                count(*) FILTER (bundle_id IS NULL AND policy = '{POPULARITY}'), sum(clicks),
                count(*) FILTER (purchases > 0), sum(purchases), sum(gmv)
            FROM results GROUP BY experiment, arm ORDER BY experiment, arm"""
        ).fetchall()
        by_user: pa.Table = con.sql(
            """SELECT experiment, arm, user_id, count(*)::DOUBLE AS requests,
                count(*) FILTER (purchases > 0)::DOUBLE AS conversion, sum(purchases)::DOUBLE AS purchases,
                sum(gmv)::DOUBLE AS gmv
            FROM results GROUP BY experiment, arm, user_id ORDER BY experiment, arm, user_id"""
        ).to_arrow_table()
    found: dict[str, list[ArmOutcome]] = {}
    for experiment, arm, policies, bundles, *counts in rows:
        made = ArmOutcome(arm, tuple(policies), tuple(bundles or ()), *map(int, counts))
        found.setdefault(experiment, []).append(made)
    return tuple(
        ExperimentOutcome(name, tuple(arms), by_user.filter(pc.equal(by_user["experiment"], name)))
        for name, arms in found.items()
    )


def _effects(by_user: pa.Table, treatment: str, control: str) -> dict[str, Effect]:
    """Ratios of means by user, who is the unit of assignment (delta method)."""
    import tea_tasting

    pair = by_user.filter(pc.is_in(by_user["arm"], pa.array([treatment, control]))).drop_columns(["experiment"])
    base = pair.filter(pc.equal(pair["arm"], control))
    told = [name for name in MEASURES if pc.sum(base[name]).as_py() > 0]
    found = dict.fromkeys(MEASURES, Effect(None, None, None, None))  # relative to a control that brought none
    if told:
        means = {name: tea_tasting.RatioOfMeans(name, "requests") for name in told}
        result = tea_tasting.Experiment(means, variant="arm").analyze(pair, control=control)
        found |= {name: _effect(result[name]) for name in told}
    return found


def _effect(result: Any) -> Effect:
    values = (result.rel_effect_size, result.rel_effect_size_ci_lower, result.rel_effect_size_ci_upper, result.pvalue)
    return Effect(*(float(value) if math.isfinite(value) else None for value in values))
