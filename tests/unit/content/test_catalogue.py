"""Which content is encoded for a day, and what gateways are told that a listing shows."""

from __future__ import annotations

from pathlib import Path

from features.content.catalogue import Catalogue, known_items, publish
from features.content.hash import image_sha, text_sha
from tests.lake import Lake, us

CUT = us("01-09 02:00")
PHOTO = "blob:" + "ab" * 32


def lake(root: Path) -> Lake:
    """Listings that change, go, and come after the cut."""
    made = Lake(root)
    made.item("a", us("01-02 05:00"), title="apple", description="sweet")
    made.item("a", us("01-05 05:00"), title="red apple", description="sweet", image_uri=PHOTO)
    made.item("b", us("01-02 05:00"), title="bread")
    made.gone("items", "b", us("01-06 05:00"))
    made.item("c", us("01-02 05:00"), title=None)
    made.item("late", us("01-09 03:00"), title="late")
    return made


def test_all_versions_known_before_the_cut_are_encoded(tmp_path: Path) -> None:
    layout = lake(tmp_path).write()
    texts = {(item.title, item.description) for item in known_items(layout, CUT)}
    assert texts == {("apple", "sweet"), ("red apple", "sweet"), ("bread", None), (None, None)}
    assert ("late", None, None) in set(known_items(layout, None))


def test_gateways_see_the_newest_content_of_the_newest_cut(tmp_path: Path) -> None:
    layout = lake(tmp_path).write()
    catalogue = Catalogue(layout)
    assert publish(layout, CUT) == 2  # a and c; b is gone
    catalogue.refresh()
    texts, images = catalogue.shas(["a", "b", "c", "late", "never"])
    assert texts == [text_sha("red apple", "sweet"), None, None, None, None]
    assert images == [image_sha(PHOTO), None, None, None, None]
    publish(layout, None)
    catalogue.refresh()
    assert catalogue.shas(["late"])[0] == [text_sha("late", None)]
    publish(layout, CUT)  # an older day again: what gateways read does not go back
    catalogue.refresh()
    assert catalogue.shas(["late"])[0] == [text_sha("late", None)]
