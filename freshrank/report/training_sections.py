"""The page's sections on what was learnt: events, conversion rate, alignment, dirty listings."""

from __future__ import annotations

from collections.abc import Mapping

from features.encoded import JsonObject
from freshrank.analysis.listings import Listing
from freshrank.report import figures
from freshrank.report.format import count, listing, number
from freshrank.report.gather import Gathered
from freshrank.report.page import Gallery, ReportSection, ReportTable

WHO = ("candidate", "incumbent", "popularity", "oracle", "relevance")
SUSPECTS = 12


def events(found: Gathered) -> ReportSection:
    """What came in, by day."""
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
        [day, *(count(row[k]) for k in ("requests", "shown", "clicked", "purchased"))]
        for day, row in s["requests_by_day"].items()
    ]
    lead = "What came in, by event time. Every record is in the log once; what was not valid lies in the dead letters."
    return ReportSection(
        "events",
        "Events and labels",
        lead,
        plots,
        [ReportTable(("day", "requests", "shown", "clicked", "purchased"), rows)],
    )


def quality(found: Gathered) -> ReportSection:
    """How well purchases are predicted, and what the gate said."""
    s = found.summary
    evaluation: dict[str, JsonObject] = s["evaluation"]
    who_is = _names(found)
    names = {"all": "all listings", "new": "new listings", "uniform": "uniformly ranked"}
    bars = {
        who_is.get(who, who): {names[part]: rows[who]["auc"] for part, rows in evaluation.items() if who in rows}
        for who in WHO
        if any(who in rows for rows in evaluation.values())
    }
    table = [
        [
            f"{names[part]}: {who_is.get(who, who)}",
            number(rows[who]["auc"]),
            number(rows[who]["log_loss"]),
            number(rows[who]["calibration"], 2),
            count(rows["positives"]),
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
    return ReportSection(
        "quality",
        "Conversion rate",
        lead,
        [
            figures.bars("AUC", bars, y="AUC", yaxis_range=[0.4, 1.0]),
            figures.calibration(
                "Calibration, ten bins of equal size",
                {who_is.get(k, k): v for k, v in found.curves.items() if k != "relevance"},
            ),
        ],
        [
            ReportTable(("who", "AUC", "log loss", "predicted / actual", "positives"), table),
            ReportTable(("run", "verdict", "reasons"), gates, "The gate", text_columns=3),
        ],
    )


def alignment(found: Gathered) -> ReportSection:
    """Whether text and photo are told to belong together."""
    s = found.summary
    plots, tables = [], []
    if s["ita_accuracy"]:
        groups = {"ITA": s["ita_accuracy"], "TIA": s["tia_accuracy"]}
        rows = [
            [name, *(number(values[kind], 3) for kind in ("random", "same_category"))]
            for name, values in groups.items()
        ]
        tables.append(
            ReportTable(
                ("task", "against random", "against the same category"),
                rows,
                f"Accuracy on {s['alignment_products']} listings never trained on",
            )
        )
    if found.similarity is not None:
        names = [found.listings.get(item, Listing()).title or item for item in found.similarity.items]
        plots.append(figures.heat_map("Photo against text before training", found.similarity.before, names))
        plots.append(figures.heat_map("Photo against text after training", found.similarity.after, names))
        contrast = s["similarity"]["contrast"]
        tables.append(
            ReportTable(
                ("", "diagonal less the rest"),
                [[f"{name} training", number(value, 3)] for name, value in contrast.items()],
                "Cosine of each modality alone through the shared bottom",
            )
        )
    lead = (
        "Does the model see whether a photo and a text belong together? One half is guessing; both tasks share their "
        "positives. The heat maps show each modality alone: no loss asks the two to meet there, so their diagonal "
        "need not brighten."
    )
    return ReportSection("alignment", "Text and image", lead, plots, tables)


def catalogue(found: Gathered) -> ReportSection:
    """The most suspicious listings."""
    s = found.summary
    entries = [
        listing(
            found,
            one.item_id,
            score=f"agreement {one.score:+.2f}",
            tag=_dirt(found, one.item_id),
            bad=one.item_id in _dirty(found),
        )
        for one in found.suspects[:SUSPECTS]
    ]
    lead = "Listings whose text and photo agree least in the model's eyes, worst first."
    if unjudged := sum(s.get("catalogue_unjudged", {}).values()):
        lead += f" {unjudged} could not be judged, for want of a text or a photo."
    tables = []
    if "catalogue_check" in s:
        check = s["catalogue_check"]
        lead += " The truth, in red, is known to this page alone."
        rows = [
            [
                f"first {n}%",
                number(check[f"dirty_among_first_{n}_percent"], 2),
                number(check[f"wrong_among_first_{n}_percent"], 2),
            ]
            for n in (5, 10)
        ]
        rows.append(["all listings", number(check["dirty_share"], 2), number(check["wrong_share"], 2)])
        tables.append(ReportTable(("most suspicious", "dirty in any way", "wrong title, category or photo"), rows))
    return ReportSection("catalogue", "Dirty listings", lead, (), tables, [Gallery("", entries)] if entries else [])


def _names(found: Gathered) -> dict[str, str]:
    """What the page calls who was judged."""
    return {"candidate": found.summary["model"] or "candidate", "relevance": "oracle, places unknown"}


def _dirty(found: Gathered) -> Mapping[str, str]:
    return found.known.dirty if found.known else {}


def _dirt(found: Gathered, item: str) -> str:
    return _dirty(found).get(item, "clean" if found.known else "").replace("_", " ")
