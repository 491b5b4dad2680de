"""The catalogue check puts a mismatch first, and counts what it could not judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from features.errors import NotReadyError, UsageError
from freshrank.analysis import catalogue
from freshrank.cli import app
from tests.serving.bundles import ITEMS, make_bundle, raw_request, score, sha
from tests.serving.lived import DAY, Lived
from trainer.runtime.scorer import Scorer

PLANTED, NO_TEXT, NO_PHOTO, BROKEN = ITEMS[3], ITEMS[4], ITEMS[5], ITEMS[6]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """A day that showed every item, one with another's photo: the one that fits it least in the bundle's eyes."""
    made = Lived(tmp_path_factory.mktemp("catalogue"))
    made.layout.bundles.mkdir(parents=True)
    made.bundle = make_bundle(made.layout.bundles, "one", seed=1, probes=1)
    row = raw_request(0, candidates=len(ITEMS))
    items = row["cand_item"]
    row["cand_image_sha"] = [sha("image", item) for item in items]
    scorer = Scorer(made.layout.bundle(made.bundle))
    photos = {sha("image", item): _seen(scorer, row, PLANTED, sha("image", item)) for item in ITEMS}
    worst = min(photos, key=photos.__getitem__)
    row["cand_image_sha"][items.index(PLANTED)] = worst
    # Others keep their photos only where they fit better than that one.
    logits = score(scorer, row)
    mean = np.mean([logits[head] for head in catalogue.HEADS], axis=0)
    row["cand_image_sha"][items.index(NO_PHOTO)] = None
    row["cand_text_sha"][items.index(NO_TEXT)] = None
    row["cand_text_sha"][items.index(BROKEN)] = "f" * 64
    for at, item in enumerate(items):
        if item != PLANTED and mean[at] <= mean[items.index(PLANTED)]:
            row["cand_image_sha"][at] = None
    made.requests["r0"] = made.rebuilt["r0"] = row
    made.scores["r0"] = logits["cvr_logit"].tolist()
    made.write()
    return made


def _seen(scorer: Scorer, row: dict[str, Any], item: str, photo: str) -> float:
    at = row["cand_item"].index(item)
    shas = [photo if place == at else one for place, one in enumerate(row["cand_image_sha"])]
    logits = score(scorer, {**row, "cand_image_sha": shas})
    return float(np.mean([logits[head][at] for head in catalogue.HEADS]))


def test_a_photo_that_does_not_fit_comes_first_and_is_named(lived: Lived) -> None:
    found = catalogue.check(lived.layout, DAY, lived.bundle)
    first = found.suspects[0]
    assert (first.item_id, first.title, first.photo) == (PLANTED, f"title of {PLANTED}", f"blob:{3:064x}")
    assert [one.score for one in found.suspects] == sorted(one.score for one in found.suspects)
    assert all(bool(one.reasons) == (min(one.logits.values()) < 0) for one in found.suspects)
    assert len({one.item_id for one in found.suspects}) == len(found.suspects)


def test_what_could_not_be_judged_is_counted_by_reason(lived: Lived) -> None:
    found = catalogue.check(lived.layout, DAY, lived.bundle)
    assert {"no text", "no photo", "text broken or not encoded"} <= set(found.unjudged)
    assert len(found.suspects) + sum(found.unjudged.values()) == len(ITEMS)
    assert not {NO_TEXT, NO_PHOTO, BROKEN} & {one.item_id for one in found.suspects}


def test_without_a_champion_or_with_a_model_without_alignment_the_error_says_so(lived: Lived) -> None:
    with pytest.raises(NotReadyError, match="no bundle is live"):
        catalogue.check(lived.layout, DAY)
    with pytest.raises(UsageError, match="no such bundle"):
        catalogue.check(lived.layout, DAY, "gone")
    plain = make_bundle(lived.layout.bundles, "plain", probes=1, model="fm")
    with pytest.raises(UsageError, match="fm does not judge"):
        catalogue.check(lived.layout, DAY, plain)


def test_the_command_writes_every_listing_judged(lived: Lived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHRANK_STACK__DIR", str(lived.root))
    words = ["catalog", "check", "--date", str(DAY), "--bundle", lived.bundle, "--out", str(tmp_path / "out.jsonl")]
    told = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    found = json.loads(told.stdout)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert found["judged"] == len(lines) and lines[0]["item_id"] == PLANTED == found["first"][0]["item_id"]
    assert found["unjudged"] == len(ITEMS) - len(lines)
    shown = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert PLANTED in shown and "not judged: no photo" in shown
