"""The page's sections on the lived day: ranked lists, the experiment, serving; and what all of it took."""

from __future__ import annotations

from collections.abc import Callable

from features.encoded import JsonObject
from freshrank.report import figures
from freshrank.report.format import count, listing, number
from freshrank.report.gather import Gathered
from freshrank.report.page import Gallery, ReportSection, ReportTable

LISTS, PER_LIST = 2, 6


def lists(found: Gathered) -> ReportSection:
    """Lists as they were answered."""
    galleries = []
    ranked = [arm for arm, row in found.summary["arms"].items() if row["bundles"]]
    for arm in sorted(ranked, key=lambda arm: arm != found.summary["champion_arm"]):
        rows = [row for row in found.rows if arm in row.experiments.values() and row.status == 200]
        rows = sorted(rows, key=lambda row: -len(row.purchases))[:LISTS]
        for row in rows:
            entries = [
                listing(
                    found,
                    item,
                    score="" if score is None else f"score {score:.3f}",
                    tag="bought" if item in row.purchases else "clicked" if item in row.clicks else "",
                )
                for item, score in list(zip(row.items, row.scores, strict=True))[:PER_LIST]
            ]
            galleries.append(Gallery(f"{arm}: {row.user_id}, request {row.request_id}", entries))
    return ReportSection(
        "lists",
        "Ranked lists",
        "The first places of lists as they were answered, and what the shopper did.",
        (),
        (),
        galleries,
    )


def arms(found: Gathered) -> ReportSection:
    """The experiment's arms, realised and by the truth."""
    s = found.summary
    arms: dict[str, JsonObject] = s["arms"]
    rows = [
        [
            arm,
            count(row["requests"]),
            count(row["users"]),
            number(row["conversion"]),
            number(row["purchases_per_request"], 3),
            number(row["gmv_minor_per_request"] / 100, 2),
            number(row["true_expected_purchases"]),
        ]
        for arm, row in arms.items()
    ]
    tables = [
        ReportTable(
            (
                "arm",
                "requests",
                "users",
                "conversion",
                "purchases / request",
                "GMV / request",
                "true expected purchases",
            ),
            rows,
        )
    ]
    effects = [
        [f"{_minus(pair)}: {measure}", _percent(e["relative"]), _interval(e), number(e["p"], 3)]
        for pair, measures in s["differences"].items()
        for measure, e in measures.items()
    ]
    if effects:
        tables.append(ReportTable(("relative difference", "effect", "95% interval", "p"), effects, "Realised, by user"))
    paired = s.get("paired")
    if paired:
        pair = f"{s['champion_arm']}_minus_{s['control_arm']}"
        d = paired[pair]
        rows = [[name, number(value)] for name, value in paired["means"].items()]
        rows.append([_minus(pair), f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"])
        tables.append(
            ReportTable(
                ("list by", "true expected purchases"),
                rows,
                f"The same {paired['requests']} requests ranked by both, judged by the truth",
            )
        )
    served = {
        f"{one['arm']}, {one['bundle'][:8]}": [(b["predicted"], b["observed"], b["candidates"]) for b in one["buckets"]]
        for one in s["served_calibration"]
    }
    plot = figures.bars(
        "True expected purchases of the lists shown",
        {"lists": {arm: row["true_expected_purchases"] for arm, row in arms.items()}},
        y="purchases a request",
    )
    plots = [plot, *([figures.calibration("Calibration of served scores", served)] if served else [])]
    lead = (
        "Users are assigned by hashing. An arm that ranks at random logs without bias and is left out of the "
        "comparison. Outcomes are those known at the day's cut. One day is short: look at the intervals."
    )
    return ReportSection("arms", "Experiment", lead, plots, tables)


def _minus(pair: str) -> str:
    return pair.replace("_minus_", " less ")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _interval(effect: dict[str, float | None]) -> str:
    return f"[{_percent(effect['low'])}, {_percent(effect['high'])}]"


def serving(found: Gathered) -> ReportSection:
    """Latency, the swap, and whether serving agrees with training."""
    s = found.summary
    by_version: dict[str, tuple[list[float], list[float]]] = {}
    for second, latency, version in s["swap_latencies"]:
        xs, ys = by_version.setdefault("other arms" if version is None else f"version {version}", ([], []))
        xs.append(second)
        ys.append(latency)
    plots = [
        figures.histogram(
            "Latency of POST /rank on the lived day",
            {"ms": [row.latency_ms for row in found.rows if row.status == 200]},
            x="milliseconds",
            log_x=True,
        ),
        figures.lines(
            "The swap: each request by what answered it", by_version, x="seconds of the lived phase", y="milliseconds"
        ),
    ]
    shown: dict[str, Callable[[float], str]] = {
        "parity_max_abs": number,
        "parity_scores": count,
        "features_equal_share": number,
        "features_compared": count,
        "rank_p50_ms": lambda value: number(value, 1),
        "rank_p99_ms": lambda value: number(value, 1),
        **dict.fromkeys(("rank_errors", "swap_requests", "swap_errors", "swap_fallbacks"), count),
    }
    rows = [[name, written(s[name])] for name, written in shown.items() if s.get(name) is not None]
    lead = (
        "Served scores against the trainer's own on the features that the gateway saw; those features against the "
        "point-in-time rebuild; the swap under traffic."
    )
    return ReportSection("serving", "Serving", lead, plots, [ReportTable(("figure", "value"), rows)])


def time(found: Gathered) -> ReportSection:
    """How long each step took."""
    steps = found.summary["steps"]
    lead = (
        f"{found.summary['wall_s'] / 60:.1f} minutes in all; {found.summary['peak_rss_mb'] / 1024:.2f} GiB at most "
        f"(proportional set size, servers included)."
    )
    return ReportSection("time", "Time", lead, [figures.bars("Seconds by step", {"steps": dict(steps)}, y="seconds")])
