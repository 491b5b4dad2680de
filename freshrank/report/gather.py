"""Everything the page shows, gathered from what the run left; the summary holds every figure of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from features.encoded import JsonObject
from features.labels.run import horizon_us
from features.layout import Layout
from features.times import run_cut
from freshrank.analysis import catalogue, events, parity
from freshrank.analysis.arms import ArmOutcome, ExperimentOutcome, experiments
from freshrank.analysis.calibration import calibrations
from freshrank.analysis.impressions import Span
from freshrank.analysis.listings import Listing, listings
from freshrank.analysis.scores import open_bundle
from freshrank.analysis.similarity import Similarity, similarity
from freshrank.demo.live import Answered, read_log
from freshrank.demo.plan import CHAMPION_ARM, CONTROL_ARM, EXPERIMENT
from freshrank.demo.run import LIVE, SWAP, Done
from freshrank.report import judged, lived
from freshrank.report.steps import step
from freshrank.sources import Oracle, find
from trainer.data.window import Window

SHOWN_LISTINGS = 8


@dataclass
class Gathered:
    """What the page is made of.

    Args:
        done: The demo.
        about: What the source's events are, as a sentence begins.
        summary: Every figure, as JSON.
        rows: The lived day's answered requests.
        listings: Item → title, photo, category.
        suspects: Listings by how little text and photo agree, worst first.
        similarity: The heat maps, where the model has them.
        known: The truth, where somebody knows it.
        curves: Calibration curves.
        delays: Minutes from list to purchase.
    """

    done: Done
    about: str
    summary: JsonObject
    rows: list[Answered] = field(default_factory=list)
    listings: dict[str, Listing] = field(default_factory=dict)
    suspects: tuple[catalogue.Suspect, ...] = ()
    similarity: Similarity | None = None
    known: Oracle | None = None
    curves: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)


def gather(done: Done) -> Gathered:
    """Read what a demo left and compute every figure.

    Args:
        done: The demo.
    """
    layout, day = done.settings.layout, done.second
    source = find(done.plan.source)
    known = source.oracle(layout, day)
    found = Gathered(done, source.about, {}, known=known)
    found.rows = read_log(done.plan.folder / LIVE) if (done.plan.folder / LIVE).exists() else []
    swap_rows = read_log(done.plan.folder / SWAP) if (done.plan.folder / SWAP).exists() else []
    found.listings = listings(layout, run_cut(day))
    evaluated = step(layout, day, "evaluate")
    scored = judged.with_oracle(layout.step(day, "evaluate").with_suffix(".parquet"), known and known.candidates)
    figures, found.curves = judged.figures(scored), judged.curves(scored)
    came_in = events.events_by_day(layout, day)
    found.delays, requests = events.delays(layout), events.requests_by_day(layout)
    alignment = evaluated.get("alignment") or {}
    found.summary = {
        "name": done.plan.name,
        "source": done.plan.source,
        "seed": done.plan.seed,
        "days": [done.first.isoformat(), day.isoformat()],
        "events_ingested": sum(sum(days.values()) for days in came_in.values()),
        "events_by_day": came_in,
        "published": done.published,
        "dead_letters": sum(done.dead_letters.values()),
        "requests": sum(row.requests for row in requests.values()),
        "requests_by_day": {of: asdict(row) for of, row in requests.items()},
        "window": _window(layout, day),
        "cvr_auc": figures["all"].get("candidate", {}).get("auc"),
        "cvr_auc_incumbent": figures["all"].get("incumbent", {}).get("auc"),
        "cvr_auc_popularity": figures["all"].get("popularity", {}).get("auc"),
        "cvr_auc_oracle": figures["all"].get("oracle", {}).get("auc"),
        "cvr_auc_new_items": figures["new"].get("candidate", {}).get("auc"),
        "cvr_new_items_positives": figures["new"]["positives"],
        "evaluation": figures,
        "calibration_curves": found.curves,
        "over_popularity": evaluated.get("over_popularity"),
        "over_incumbent": evaluated.get("over_incumbent"),
        "ita_accuracy": _accuracy(alignment, "ita"),
        "tia_accuracy": _accuracy(alignment, "tia"),
        "alignment_products": alignment.get("products"),
        "model": evaluated.get("model"),
        "bundle": step(layout, day, "bundle").get("bundle"),
        "gates": {str(d): step(layout, d, "gate") for d in sorted({done.first, day})},
        "trainings": {str(d): step(layout, d, "train") for d in sorted({done.first, day})},
        "delays_minutes": _delays(found.delays),
        "steps": done.steps,
        "wall_s": round(done.wall_s, 1),
        "peak_rss_mb": round(done.peak_mb, 1),
    }
    _catalogue(found, layout)
    _lived(found, swap_rows)
    return found


def _window(layout: Layout, day: dt.date) -> JsonObject:
    window = step(layout, day, "window")
    return {"id": window["window_id"], **{name: window[name] for name in ("days", "rows", "candidates")}}


def _accuracy(alignment: JsonObject, task: str) -> dict[str, float] | None:
    mine = alignment.get(task)
    return {kind: mine[kind] for kind in ("random", "same_category")} if mine else None


def _delays(minutes: list[float]) -> JsonObject:
    shares = {f"p{round(share * 100)}": lived.quantile(minutes, share) for share in (0.5, 0.85, 0.99)}
    under = {"under_30_minutes": sum(m < 30 for m in minutes) / len(minutes)} if minutes else {}
    return {"purchases": len(minutes), **shares, **under}


def _catalogue(found: Gathered, layout: Layout) -> None:
    scorer = open_bundle(layout, found.summary["bundle"])
    if not catalogue.can_judge(scorer):
        return
    files = Window(layout.window(found.summary["window"]["id"])).evaluation
    judged_now = catalogue.judge(files, scorer, found.listings)
    found.suspects = judged_now.suspects
    found.summary["catalogue_unjudged"] = judged_now.unjudged
    if not found.suspects:
        return
    one_each: dict[str, str] = {}
    for suspect in sorted(found.suspects, key=lambda one: -one.score):
        one_each.setdefault(found.listings.get(suspect.item_id, Listing()).category, suspect.item_id)
    chosen = list(one_each.values())[:SHOWN_LISTINGS]
    found.similarity = similarity(files, scorer, found.done.plan.seed, chosen)
    if found.known is not None:
        pairs = [(suspect.item_id, suspect.score) for suspect in found.suspects]
        found.summary["catalogue_check"] = found.known.precision(pairs)
    if found.similarity is not None:
        shown = {"before": found.similarity.before, "after": found.similarity.after}
        found.summary["similarity"] = {
            "items": found.similarity.items,
            **shown,
            "contrast": {name: found.similarity.contrast(values) for name, values in shown.items()},
        }


def _lived(found: Gathered, swap_rows: list[Answered]) -> None:
    done, rows = found.done, found.rows
    if not rows:
        return
    known, layout = found.known, done.settings.layout
    span, horizon = Span.of_day(done.second), horizon_us(done.settings.labels)
    expected = known.expected({row.request_id: row.items for row in rows}) if known else {}
    latencies = [row.latency_ms for row in rows if row.status == 200]
    swap = lived.swap(swap_rows, EXPERIMENT, CHAMPION_ARM)
    found.summary |= {
        **_arms(experiments(layout, span, horizon), lived.true_values(rows, expected)),
        "served_calibration": [
            {**asdict(one), "candidates": one.candidates, "ratio": one.ratio}
            for one in calibrations(layout, span, horizon)
        ],
        "rank_p50_ms": lived.quantile(latencies, 0.5),
        "rank_p99_ms": lived.quantile(latencies, 0.99),
        "rank_errors": sum(row.status != 200 for row in rows),
        "swap_requests": swap["requests"],
        "swap_errors": swap["errors"],
        "swap_fallbacks": swap["fallbacks"],
        "swap_changes": swap["changes"],
        "swap_latencies": [[row.wall_s, row.latency_ms, row.triton_version] for row in swap_rows],
        "triton_versions": done.versions,
        **_parity(parity.measure(layout, done.second, done.settings.parity)),
        "champion_arm": CHAMPION_ARM,
        "control_arm": CONTROL_ARM,
        "paired": known.paired(done.previews, CHAMPION_ARM, CONTROL_ARM) if known and done.previews else None,
    }


def _arms(found: Sequence[ExperimentOutcome], truth: Mapping[tuple[str, str], float]) -> JsonObject:
    """Arms by name, and their differences to the control where it is one of them; the demo runs one experiment."""
    arms: dict[str, JsonObject] = {}
    differences: dict[str, JsonObject] = {}
    for experiment in found:
        for arm in experiment.arms:
            arms[arm.name] = {**_figures(arm), "true_expected_purchases": truth.get((experiment.name, arm.name))}
        if CONTROL_ARM in arms:
            differences |= {
                pair: {measure: asdict(effect) for measure, effect in effects.items()}
                for pair, effects in experiment.differences(CONTROL_ARM).items()
            }
    return {"arms": arms, "differences": differences}


def _figures(arm: ArmOutcome) -> JsonObject:
    counts = {name: value for name, value in asdict(arm).items() if name != "name"}
    return {
        **counts,
        "conversion": arm.conversion,
        "purchases_per_request": arm.purchases / arm.requests,
        "gmv_minor_per_request": arm.gmv_minor / arm.requests,
    }


def _parity(found: parity.Parity) -> JsonObject:
    features = found.features
    return {
        "parity_max_abs": found.scores.max_abs,
        "parity_scores": found.scores.compared,
        "features_equal_share": features.equal_share,
        "features_compared": features.compared,
        "features_differing": {
            column.column: (column.compared - column.equal) / features.compared for column in features.differing
        },
        "features_missing": {column.column: column.missing for column in features.missing},
    }
