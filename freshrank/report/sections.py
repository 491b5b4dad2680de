"""The page's sections, in the order in which an engineer asks."""

from __future__ import annotations

from features.encoded import JsonObject
from freshrank.report import serving_sections as lived
from freshrank.report import training_sections as learnt
from freshrank.report.format import count, number
from freshrank.report.gather import Gathered
from freshrank.report.page import LoopStep, ReportSection


def loop(found: Gathered) -> list[LoopStep]:
    """The loop with its numbers on it."""
    s = found.summary
    steps = [
        LoopStep("Events ingested", count(s["events_ingested"]), f"{s['dead_letters']} dead letters"),
        LoopStep("Labelled requests", count(s["requests"]), f"{len(s['requests_by_day'])} days"),
        LoopStep("Window", count(s["window"]["rows"]), f"requests, id {s['window']['id'][:8]}"),
        LoopStep("CVR AUC", number(s["cvr_auc"]), f"popularity {number(s['cvr_auc_popularity'])}"),
        LoopStep("Gate", "blessed" if _last_gate(s).get("blessed") else "refused", f"bundle {(s['bundle'] or '')[:8]}"),
    ]
    if found.rows:
        steps += [
            LoopStep("Versions in Triton", count(len(s["triton_versions"])), f"{s['swap_errors']} errors in the swap"),
            LoopStep(
                "Ranked lists",
                count(len(found.rows)),
                f"p50 {number(s['rank_p50_ms'], 1)} ms, p99 {number(s['rank_p99_ms'], 1)} ms",
            ),
        ]
    return steps


def sections(found: Gathered) -> list[ReportSection]:
    """Every section that the run has something to show for."""
    made = [learnt.events(found), learnt.quality(found), learnt.alignment(found), learnt.catalogue(found)]
    if found.rows:
        made += [lived.lists(found), lived.arms(found), lived.serving(found)]
    return [*made, lived.time(found)]


def _last_gate(summary: JsonObject) -> JsonObject:
    return dict(summary["gates"].get(summary["days"][-1]) or {})
