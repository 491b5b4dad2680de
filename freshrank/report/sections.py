"""The page's sections, in the order in which an engineer asks."""

from __future__ import annotations

from typing import Any

from freshrank.report import figures
from freshrank.report.gather import Gathered
from freshrank.report.page import Gallery, Listing, LoopStep, Section, Table, photo_uri

WHO = ("candidate", "incumbent", "popularity", "oracle", "relevance")
NAMES = {"candidate": "CameNN", "relevance": "oracle, places unknown"}
LISTS, PER_LIST, SUSPECTS = 2, 6, 12


def loop(found: Gathered) -> list[LoopStep]:
    """The loop with its numbers on it."""
    s = found.summary
    steps = [
        LoopStep("Events ingested", _count(s["events_ingested"]), f"{s['dead_letters']} dead letters"),
        LoopStep("Labelled requests", _count(s["requests"]), f"{len(s['requests_by_day'])} days"),
        LoopStep("Window", _count(s["window"]["rows"]), f"requests, id {s['window']['id'][:8]}"),
        LoopStep("CVR AUC", _number(s["cvr_auc"]), f"popularity {_number(s['cvr_auc_popularity'])}"),
        LoopStep("Gate", "blessed" if _last_gate(s).get("blessed") else "refused", f"bundle {(s['bundle'] or '')[:8]}"),
    ]
    if found.rows:
        steps += [
            LoopStep("Versions in Triton", _count(len(s["triton_versions"])), f"{s['swap_errors']} errors in the swap"),
            LoopStep(
                "Ranked lists",
                _count(len(found.rows)),
                f"p50 {_number(s['rank_p50_ms'], 1)} ms, p99 {_number(s['rank_p99_ms'], 1)} ms",
            ),
        ]
    return steps


def sections(found: Gathered) -> list[Section]:
    """Every section that the run has something to show for."""
    made = [_events(found), _quality(found), _alignment(found), _catalogue(found)]
    if found.rows:
        made += [_lists(found), _arms(found), _serving(found)]
    return [*made, _time(found)]


def _events(found: Gathered) -> Section:
    s = found.summary
    window = set(s["window"]["days"]) | {s["days"][-1]}
    by_day = {
        topic: {day: float(n) for day, n in days.items() if day in window}
        for topic, days in s["events_by_day"].items()
        if topic not in ("items", "users")
    }
    requests = {day: float(row["requests"]) for day, row in s["requests_by_day"].items()}
    plots = [
        figures.bars("Events by day, the window and the day judged", by_day, y="events"),
        figures.bars("Labelled requests by day", {"requests": requests}, y="requests"),
    ]
    if found.delays:
        plots.append(
            figures.histogram("Minutes from list to purchase", {"minutes": found.delays}, x="minutes", log_x=True)
        )
    rows = [
        [day, *(_count(row[k]) for k in ("requests", "shown", "clicked", "purchased"))]
        for day, row in s["requests_by_day"].items()
    ]
    lead = "What came in, by event time. Every record is in the log once; what was not valid lies in the dead letters."
    return Section(
        "events", "Events and labels", lead, plots, [Table(("day", "requests", "shown", "clicked", "purchased"), rows)]
    )


def _quality(found: Gathered) -> Section:
    s = found.summary
    evaluation: dict[str, dict[str, Any]] = s["evaluation"]
    names = {"all": "all listings", "new": "new listings", "uniform": "uniformly ranked"}
    bars = {
        NAMES.get(who, who): {names[part]: rows[who]["auc"] for part, rows in evaluation.items() if who in rows}
        for who in WHO
        if any(who in rows for rows in evaluation.values())
    }
    table = [
        [
            f"{names[part]}: {NAMES.get(who, who)}",
            _number(rows[who]["auc"]),
            _number(rows[who]["log_loss"]),
            _number(rows[who]["calibration"], 2),
            _count(rows["positives"]),
        ]
        for part, rows in evaluation.items()
        for who in WHO
        if who in rows
    ]
    lead = (
        f"Judged on {s['days'][-1]}, which no model had seen, on labels as known at the cut. The oracle knows the true "
        f"probability of purchase at the place shown; nothing that reads events can reach it."
    )
    if s.get("over_popularity") and s["over_popularity"].get("all"):
        over = s["over_popularity"]["all"]
        lead += f" AUC over popularity, resampling requests: {over['value']:+.4f} "
        lead += f"[{over['low']:+.4f}, {over['high']:+.4f}]."
    gates = [
        [day, "blessed" if gate.get("blessed") else "refused", "; ".join(map(str, gate.get("reasons", [])))]
        for day, gate in s["gates"].items()
        if gate
    ]
    return Section(
        "quality",
        "Conversion rate",
        lead,
        [
            figures.bars("AUC", bars, y="AUC", yaxis_range=[0.4, 1.0]),
            figures.calibration(
                "Calibration, ten bins of equal size",
                {NAMES.get(k, k): v for k, v in found.curves.items() if k != "relevance"},
            ),
        ],
        [
            Table(("who", "AUC", "log loss", "predicted / actual", "positives"), table),
            Table(("run", "verdict", "reasons"), gates, "The gate", text_columns=3),
        ],
    )


def _alignment(found: Gathered) -> Section:
    s = found.summary
    plots, tables = [], []
    if s["ita_accuracy"]:
        groups = {"ITA": s["ita_accuracy"], "TIA": s["tia_accuracy"]}
        rows = [
            [name, *(_number(values[kind], 3) for kind in ("random", "same_category"))]
            for name, values in groups.items()
        ]
        tables.append(
            Table(
                ("task", "against random", "against the same category"),
                rows,
                f"Accuracy on {s['alignment_products']} listings never trained on",
            )
        )
    if found.similarity is not None:
        names = [found.listings.get(item, {}).get("title", item) for item in found.similarity.items]
        if found.similarity.before:
            plots.append(
                figures.heat_map("Photo against text, trained without alignment", found.similarity.before, names)
            )
        plots.append(figures.heat_map("Photo against text, trained with alignment", found.similarity.after, names))
        contrast = s["similarity"]["contrast"]
        tables.append(
            Table(
                ("", "diagonal less the rest"),
                [[name, _number(value, 3)] for name, value in contrast.items() if value is not None],
                "Cosine of each modality alone through the shared bottom",
            )
        )
    lead = (
        "Does the model see whether a photo and a text belong together? One half is guessing; both tasks share their "
        "positives."
    )
    return Section("alignment", "Text and image", lead, plots, tables)


def _catalogue(found: Gathered) -> Section:
    s = found.summary
    entries = [
        _listing(found, item, score=f"agreement {score:+.2f}", tag=_dirt(found, item), bad=item in _dirty(found))
        for item, score in found.suspects[:SUSPECTS]
    ]
    lead = "Listings whose text and photo agree least in the model's eyes, worst first."
    tables = []
    if "catalogue_check" in s:
        check = s["catalogue_check"]
        lead += " The truth, in red, is known to this page alone."
        rows = [
            [
                f"first {n}%",
                _number(check[f"dirty_among_first_{n}_percent"], 2),
                _number(check[f"wrong_among_first_{n}_percent"], 2),
            ]
            for n in (5, 10)
        ]
        rows.append(["all listings", _number(check["dirty_share"], 2), _number(check["wrong_share"], 2)])
        tables.append(Table(("most suspicious", "dirty in any way", "wrong title, category or photo"), rows))
    return Section("catalogue", "Dirty listings", lead, (), tables, [Gallery("", entries)] if entries else [])


def _lists(found: Gathered) -> Section:
    galleries = []
    for arm in ("camenn", "popularity"):
        rows = [row for row in found.rows if row.experiments.get("ranker") == arm and row.status == 200]
        rows = sorted(rows, key=lambda row: -len(row.purchases))[:LISTS]
        for row in rows:
            entries = [
                _listing(
                    found,
                    item,
                    score="" if score is None else f"score {score:.3f}",
                    tag="bought" if item in row.purchases else "clicked" if item in row.clicks else "",
                )
                for item, score in list(zip(row.items, row.scores, strict=True))[:PER_LIST]
            ]
            galleries.append(Gallery(f"{arm}: {row.user_id}, request {row.request_id}", entries))
    return Section(
        "lists",
        "Ranked lists",
        "The first places of lists as they were answered, and what the shopper did.",
        (),
        (),
        galleries,
    )


def _arms(found: Gathered) -> Section:
    s = found.summary
    arms: dict[str, dict[str, Any]] = s["arms"]
    rows = [
        [
            arm,
            _count(row["requests"]),
            _count(row["users"]),
            _number(row["conversion"]),
            _number(row["purchases_per_request"], 3),
            _number(row["gmv_minor_per_request"] / 100, 2),
            _number(row["true_expected_purchases"]),
        ]
        for arm, row in arms.items()
    ]
    tables = [
        Table(
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
        [
            f"{arm}: {name.removesuffix('_effect')}",
            f"{e['relative']:+.1%}",
            f"[{e['low']:+.1%}, {e['high']:+.1%}]",
            _number(e["p"], 3),
        ]
        for arm, row in arms.items()
        for name, e in row.items()
        if name.endswith("_effect")
    ]
    if effects:
        tables.append(Table(("relative to popularity", "effect", "95% interval", "p"), effects, "Realised, by user"))
    paired = s.get("paired")
    if paired:
        d = paired["camenn_minus_popularity"]
        rows = [[name, _number(value)] for name, value in paired["means"].items()]
        rows.append(["CameNN less popularity", f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"])
        tables.append(
            Table(
                ("list by", "true expected purchases"),
                rows,
                f"The same {paired['requests']} requests ranked by both, judged by the truth",
            )
        )
    plot = figures.bars(
        "True expected purchases of the lists shown",
        {"lists": {arm: row["true_expected_purchases"] for arm, row in arms.items()}},
        y="purchases a request",
    )
    lead = (
        "Users are assigned by hashing. The uniform arm logs without bias and is left out of the comparison. "
        "One day is short: look at the intervals."
    )
    return Section("arms", "Experiment", lead, [plot], tables)


def _serving(found: Gathered) -> Section:
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
    rows = [
        [name, _number(s.get(name), 8)]
        for name in (
            "parity_max_abs",
            "parity_scores",
            "features_equal_share",
            "features_compared",
            "rank_p50_ms",
            "rank_p99_ms",
        )
        if s.get(name) is not None
    ]
    rows += [[name, _count(s[name])] for name in ("rank_errors", "swap_requests", "swap_errors", "swap_fallbacks")]
    lead = (
        "Served scores against the trainer's own on the features that the gateway saw; those features against the "
        "point-in-time rebuild; the swap under traffic."
    )
    return Section("serving", "Serving", lead, plots, [Table(("figure", "value"), rows)])


def _time(found: Gathered) -> Section:
    steps = found.summary["steps"]
    lead = (
        f"{found.summary['wall_s'] / 60:.1f} minutes in all; {found.summary['peak_rss_mb'] / 1024:.2f} GiB at most "
        f"(proportional set size, servers included)."
    )
    return Section("time", "Time", lead, [figures.bars("Seconds by step", {"steps": dict(steps)}, y="seconds")])


def _listing(found: Gathered, item: str, *, score: str = "", tag: str = "", bad: bool = False) -> Listing:
    known = found.listings.get(item, {})
    uri = known.get("image_uri", "")
    photo = photo_uri(found.done.settings.layout.blob(uri.removeprefix("blob:"))) if uri.startswith("blob:") else ""
    return Listing(known.get("title", item), photo, score, tag, bad)


def _dirty(found: Gathered) -> dict[str, str]:
    return found.known.dirty if found.known else {}


def _dirt(found: Gathered, item: str) -> str:
    return _dirty(found).get(item, "clean" if found.known else "").replace("_", " ")


def _last_gate(summary: dict[str, Any]) -> dict[str, Any]:
    return dict(summary["gates"].get(summary["days"][-1]) or {})


def _number(value: float | None, digits: int = 4) -> str:
    return (
        "–" if value is None else f"{value:,.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.1e}"
    )


def _count(value: float) -> str:
    return f"{value:,.0f}"
