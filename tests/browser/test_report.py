"""The report is a page that a browser shows without a network and without complaint."""

from __future__ import annotations

import pytest
from playwright.sync_api import sync_playwright

from tests.loop import Loop

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.timeout(1800)]
FITTING = """[...document.querySelectorAll('.plot svg.main-svg')].every(
    svg => svg.getBoundingClientRect().right <= svg.closest('.plot').getBoundingClientRect().right + 1)"""
SECTIONS = ("events", "quality", "alignment", "catalogue", "lists", "arms", "serving", "time")


def test_the_page_shows_every_section_and_every_photo(loop: Loop) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 900}, offline=True)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
        page.goto((loop.folder / "report.html").as_uri())
        page.wait_for_function("document.querySelectorAll('.plot svg.main-svg').length > 5")
        for section in SECTIONS:
            assert page.locator(f"h2#{section}").is_visible(), section
        broken = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
        wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        photos = page.evaluate("document.images.length")
        page.wait_for_function(FITTING, timeout=10_000)  # fails when a plot is cut off by its card
        browser.close()
    assert complaints == []
    assert asked == [], "the page needs nothing from a network"
    assert broken == 0
    assert photos > 10
    assert not wide, "nothing sticks out at the side"


def test_the_page_and_the_summary_say_the_same(loop: Loop) -> None:
    page = (loop.folder / "report.html").read_text(encoding="utf-8")
    summary = loop.summary
    assert f"{summary['cvr_auc']:.4f}" in page
    assert f"{summary['events_ingested']:,}" in page
    assert "undefined" not in page.split("</script>")[-1]
