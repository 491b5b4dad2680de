"""The catalogue check: which listings' text and photo do not belong together in a bundle's eyes."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.errors import NotReadyError, UsageError
from features.layout import Layout
from features.times import run_cut
from freshrank.analysis.listings import Listing, listings
from freshrank.analysis.scores import open_bundle
from freshrank.pipeline.window import window_of
from serving.state import CHAMPION, ServingFile
from trainer.data.window import Window, chunks, raw, select
from trainer.evaluate.metrics import finite
from trainer.runtime.encoding import Raw
from trainer.runtime.scorer import Scorer

HEADS = {"ita_logit": "the photo does not fit the text", "tia_logit": "the text does not fit the photo"}


@dataclass(frozen=True)
class Suspect:
    """A listing as the alignment heads see it.

    Args:
        item_id: The listing.
        score: Mean of the heads' logits; the lower, the more suspicious.
        logits: Head → logit that text and photo belong together.
        reasons: What the heads say against it; empty where each thinks that they rather belong together.
        title: Its title as last known.
        photo: Its photo's URI as last known.
    """

    item_id: str
    score: float
    logits: dict[str, float]
    reasons: tuple[str, ...]
    title: str = ""
    photo: str = ""


@dataclass(frozen=True)
class CatalogueCheck:
    """The listings that a day's requests showed.

    Args:
        bundle: The bundle that judged.
        suspects: Every listing that could be judged, most suspicious first.
        unjudged: Why a listing could not be judged → how many.
    """

    bundle: str
    suspects: tuple[Suspect, ...]
    unjudged: dict[str, int]


def check(layout: Layout, day: dt.date, bundle: str | None = None) -> CatalogueCheck:
    """Judge the listings that a day's requests showed, by a bundle's alignment heads.

    Args:
        layout: Where windows, bundles and tokens lie.
        day: The day; its window is built.
        bundle: The bundle that judges; by default the champion.

    Raises:
        UsageError: If there is no such bundle, or its model has no alignment heads.
        NotReadyError: If there is no champion, the day has no window, or no listing could be judged.
    """
    name = bundle or ServingFile(layout).read().aliases.get(CHAMPION)
    if name is None:
        raise NotReadyError("no bundle is live", field="champion", value=None, remedy="deploy one, or give --bundle")
    if not (layout.bundle(name) / "bundle.json").exists():
        raise UsageError("no such bundle", field="bundle", value=name, remedy=f"name a folder of {layout.bundles}")
    scorer = open_bundle(layout, name)
    if not can_judge(scorer):
        raise UsageError(
            f"the model {scorer.info['model']} does not judge whether text and photo belong together",
            field="bundle", value=name, remedy="give --bundle of a model with the tasks ita and tia, such as camenn",
        )  # fmt: skip
    files = Window(layout.window(window_of(layout, day).window_id)).evaluation
    found = judge(files, scorer, listings(layout, run_cut(day)))
    if not found.suspects:
        raise NotReadyError(
            "no listing could be judged", field="date", value=day.isoformat(),
            remedy="; ".join(f"{count}: {why}" for why, count in found.unjudged.items()) or "the day showed none",
        )  # fmt: skip
    return found


def can_judge(scorer: Scorer) -> bool:
    """Whether a bundle's model says if text and photo belong together."""
    return scorer.content is not None and set(HEADS) <= set(scorer.outputs)


def judge(files: Sequence[Path], scorer: Scorer, known: dict[str, Listing]) -> CatalogueCheck:
    """Judge every listing of some requests; each once, as the first request showed it that showed text and photo.

    Args:
        files: The requests.
        scorer: A bundle that `can_judge`.
        known: Title and photo of each listing, to name it by.

    Raises:
        DataError: If a logit is not finite.
    """
    suspects, unjudged = [], dict[str, str]()
    for listing in each_listing(files, scorer, unjudged=unjudged):
        logits = scorer.score_raw(listing)
        for head in HEADS:
            finite(head, logits[head])
        for at, item in enumerate(listing.columns["cand_item"].tolist()):
            suspects.append(_suspect(item, {head: float(logits[head][at]) for head in HEADS}, known))
    suspects.sort(key=lambda one: (one.score, one.item_id))
    return CatalogueCheck(scorer.folder.name, tuple(suspects), dict(Counter(unjudged.values()).most_common()))


def _suspect(item: str, logits: dict[str, float], known: dict[str, Listing]) -> Suspect:
    reasons = tuple(
        f"{against} ({1 / (1 + np.exp(-logits[head])):.0%} that it does)"
        for head, against in HEADS.items()
        if logits[head] < 0
    )
    listing = known.get(item, Listing())
    return Suspect(item, float(np.mean(list(logits.values()))), logits, reasons, listing.title, listing.photo)


def each_listing(
    files: Sequence[Path], scorer: Scorer, only: set[str] | None = None, unjudged: dict[str, str] | None = None
) -> Iterator[Raw]:
    """Each listing with text and photo once, in the first request that showed it with both.

    Args:
        files: The requests.
        scorer: The bundle that will judge them; its tokens count.
        only: The listings wanted; all by default.
        unjudged: Filled with the listings that are in none, and why.

    Yields:
        Raw columns of some requests, other candidates left out.
    """
    assert scorer.content is not None
    tokens, columns = scorer.content.tokens, sorted({*scorer.encoding.columns(), "cand_item"})
    have, lacking = set[str](), {} if unjudged is None else unjudged
    for chunk in chunks(files, columns, 256):
        found = raw(chunk, columns)
        shas = [found.columns[name] for name in ("cand_text_sha", "cand_image_sha")]
        known = [tokens.rows(sha) >= 0 for sha in shas]
        kept: npt.NDArray[np.bool_] = np.zeros(len(known[0]), bool)
        for at, item in enumerate(found.columns["cand_item"].tolist()):
            if item in have or (only is not None and item not in only):
                continue
            if all(one[at] for one in known):
                have.add(item)
                lacking.pop(item, None)
                kept[at] = True
            else:
                lacking[item] = _lack([sha[at] for sha in shas], [bool(one[at]) for one in known])
        if kept.any():
            yield select(found, np.arange(chunk.rows.num_rows), kept)


def _lack(shas: Sequence[str | None], known: Sequence[bool]) -> str:
    """What a listing lacks to be judged."""
    parts = []
    for name, sha, there in zip(("text", "photo"), shas, known, strict=True):
        if not sha:
            parts.append(f"no {name}")
        elif not there:
            parts.append(f"{name} broken or not encoded")
    return ", ".join(parts)
