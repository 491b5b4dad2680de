"""Write a demo's `summary.json` and `report.html`."""

from __future__ import annotations

import json

from features import atomic
from features.encoded import JsonObject
from freshrank.demo.run import Done
from freshrank.report import figures
from freshrank.report.gather import Gathered, gather
from freshrank.report.page import render
from freshrank.report.sections import loop, sections


def write(done: Done) -> tuple[JsonObject, str]:
    """Write the report of a demo.

    Args:
        done: What the demo left.

    Returns:
        The summary, and a table of it for the terminal.
    """
    found = gather(done)
    folder = done.plan.folder
    atomic.write_text(folder / "summary.json", json.dumps(found.summary, indent=1) + "\n")
    page = render(
        name=done.plan.name,
        lead=_lead(found),
        loop_steps=loop(found),
        sections=sections(found),
        script=figures.script(),
        footer=f"Seed {done.plan.seed}. Made by freshrank demo --source {done.plan.source} --seed {done.plan.seed}.",
    )
    atomic.write_text(folder / "report.html", page)
    return found.summary, table(found.summary)


def table(summary: JsonObject) -> str:
    """The summary's first figures as aligned lines."""
    wanted = (
        "events_ingested", "dead_letters", "requests", "cvr_auc", "cvr_auc_popularity", "cvr_auc_oracle",
        "cvr_auc_new_items", "ita_accuracy", "tia_accuracy", "triton_versions", "swap_requests", "swap_errors",
        "parity_max_abs", "features_equal_share", "rank_p50_ms", "rank_p99_ms", "wall_s", "peak_rss_mb",
    )  # fmt: skip
    lines = [f"{name:<22} {_shown(summary[name])}" for name in wanted if summary.get(name) is not None]
    for arm, row in (summary.get("arms") or {}).items():
        lines.append(
            f"arm {arm:<18} {row['requests']} requests, conversion {row['conversion']:.4f}, "
            f"GMV a request {row['gmv_minor_per_request'] / 100:.2f}, "
            f"true expected purchases {_shown(row['true_expected_purchases'])}"
        )
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:,.4f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    return str(value)


def _lead(found: Gathered) -> str:
    summary = found.summary
    if found.rows:
        truth = ", against a truth that only this page knows" if found.known else ""
        return (
            f"{found.about} went through Kafka, Airflow retrained twice, and on {found.done.second} users shopped from "
            f"the lists of two rankers{truth}. "
            f"{summary['wall_s'] / 60:.1f} minutes, {summary['peak_rss_mb'] / 1024:.1f} GiB at most."
        )
    return (
        f"{found.about} went through Kafka; seven days trained a model that was judged on "
        f"{found.done.second}. Nobody answers here, so there are no arms. {summary['wall_s'] / 60:.1f} minutes."
    )
