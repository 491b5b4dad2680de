"""Ids, titles and categories of any script stand in the report as they are, and never become markup."""

from __future__ import annotations

import datetime as dt
from html.parser import HTMLParser
from pathlib import Path

from features.times import run_cut
from freshrank.analysis.listings import listings
from freshrank.report import figures
from freshrank.report.page import Gallery, ListingCard, LoopStep, ReportSection, ReportTable, render
from tests.serving.bundles import CATEGORIES, ITEMS, ODD_ITEMS
from tests.serving.world import happened

NAMES = [*ODD_ITEMS, "<script>alert(1)</script>", "</td></table>", "&lt;b&gt;", "{{ 7 * 7 }}", 'x" onerror="alert(1)']


class Texts(HTMLParser):
    """The texts of a page, one an element, what its pictures are called, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.texts += [(value or "").removeprefix("photo of ") for name, value in attrs if name == "alt"]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(names: list[str]) -> Texts:
    """A page whose every place that shows names shows these."""
    html = render(
        name="run", lead="lead", script="", footer="",
        loop_steps=[LoopStep(name, name, name) for name in names],
        sections=[
            ReportSection(
                "s", "title", "lead",
                tables=[ReportTable(names, [names], title=name, text_columns=len(names)) for name in names],
                galleries=[Gallery(name, [ListingCard(n, "data:,", n, n) for n in names]) for name in names],
            )
        ],
    )  # fmt: skip
    parser = Texts()
    parser.feed(html)
    parser.close()
    return parser


def test_names_stand_in_the_page_as_they_are_and_are_no_markup() -> None:
    odd, plain = page(NAMES), page([f"name{n}" for n in range(len(NAMES))])
    assert odd.tags == plain.tags
    wanted = [NAMES[int(text.removeprefix("name"))] if text.startswith("name") else text for text in plain.texts]
    assert odd.texts == wanted


def test_a_plots_labels_cannot_end_its_script() -> None:
    plot = figures.heat_map("</script>", [[1.0, 0.5], [0.5, 1.0]], ["</script><script>alert(1)", "蘋果"])
    assert plot.count("</script>") == plot.count("<script")
    assert "<script>alert" not in plot


def test_listings_keep_their_names_from_the_log_to_the_report(tmp_path: Path) -> None:
    found = listings(happened(tmp_path).write(), run_cut(dt.date(2026, 1, 9)))
    assert set(found) == set(ITEMS)
    for number, item in enumerate(ITEMS):
        assert found[item].category == (CATEGORIES[number % 3] or "") and found[item].title == f"title of {item}"
