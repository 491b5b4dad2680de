"""The page: sections of plots, tables and listings with photos, self-contained."""

from __future__ import annotations

import base64
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LoopStep:
    """One station of the loop: its name, its number, a remark."""

    name: str
    number: str
    note: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table; the first columns are text, the others are figures."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    text_columns: int = 1


@dataclass(frozen=True)
class ListingCard:
    """A listing with its photo.

    Args:
        title: Its title as listed.
        photo: A data URI, or empty.
        score: A figure under it.
        tag: A remark under it.
        bad: Whether the remark is a complaint.
    """

    title: str
    photo: str = ""
    score: str = ""
    tag: str = ""
    bad: bool = False


@dataclass(frozen=True)
class Gallery:
    """Listings side by side."""

    title: str
    entries: Sequence[ListingCard]


@dataclass(frozen=True)
class ReportSection:
    """A part of the page."""

    id: str
    title: str
    lead: str
    plots: Sequence[str] = field(default_factory=tuple)
    tables: Sequence[ReportTable] = field(default_factory=tuple)
    galleries: Sequence[Gallery] = field(default_factory=tuple)


def photo_uri(path: Path) -> str:
    """A photo as a data URI, or an empty string where there is none.

    Args:
        path: A JPEG file.
    """
    if not path.is_file():
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def render(
    *, name: str, lead: str, loop_steps: Sequence[LoopStep], sections: Sequence[ReportSection], script: str, footer: str
) -> str:
    """Render the page.

    Args:
        name: Name of the run.
        lead: What the run was, in a sentence or two.
        loop_steps: Stations of the loop with their numbers.
        sections: Parts of the page.
        script: The plotting library, or empty where no section has plots.
        footer: Last words.

    Returns:
        HTML that needs nothing else. Text is escaped: titles come from shops.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = importlib.resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        name=name, lead=lead, loop_steps=loop_steps, sections=sections, script=script, footer=footer
    )
