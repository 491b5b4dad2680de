"""What every step of a day's run leaves: a typed result, whose encoding is `state/steps/<D>/<step>.json`."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import msgspec

from features import atomic
from features.encoded import damaged
from features.errors import NotReadyError
from features.layout import Layout
from freshrank.settings import Settings

R = TypeVar("R", bound="StepResult")


@dataclass(frozen=True)
class StepResult(ABC):
    """What a step did."""

    STEP: ClassVar[str]
    """Name of the step, and of its note."""
    COMMAND: ClassVar[str]
    """Words of the command line that run it."""

    @abstractmethod
    def summary(self) -> str:
        """One line for people."""

    def to_json(self) -> dict[str, object]:
        """For `--json` and for the note."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, object]) -> Self:
        """Read what `to_json` made; what else it holds is left aside.

        Raises:
            msgspec.ValidationError: If a field is missing or of another type.
            DataError: If a figure makes no sense.
        """
        return msgspec.convert(found, type=cls, str_keys=True)

    @classmethod
    def note(cls, layout: Layout, day: dt.date, model: str = "") -> Path:
        """The file of the step's note; one of a model beside the settings' has a file of its own."""
        return layout.step(day, f"{cls.STEP}-{model}" if model else cls.STEP)

    def leave(self, layout: Layout, day: dt.date, model: str = "") -> None:
        """Write the note for the steps that follow.

        Args:
            layout: Where things lie.
            day: The run's day D.
            model: A model beside the settings' one; empty for that.
        """
        atomic.write_text(self.note(layout, day, model), encoded(self))

    @classmethod
    def read(cls, layout: Layout, day: dt.date, model: str = "") -> Self:
        """Read the note of a day's step.

        Args:
            layout: Where things lie.
            day: The run's day D.
            model: A model beside the settings' one; empty for that.

        Raises:
            NotReadyError: If the step has not run.
            DataError: If the note is damaged.
        """
        path = cls.note(layout, day, model)
        again = f"freshrank {cls.COMMAND} --date {day}" + (f" --model {model}" if model else "")
        if not path.exists():
            raise NotReadyError(
                f"{path.stem} has not run for this day",
                field="date",
                value=day.isoformat(),
                remedy=f"run `{again}` first",
            )
        return decoded(cls, path, remedy=f"run `{again}` again")


@dataclass(frozen=True)
class TimedResult(StepResult):
    """What a step did that adds nothing to what its work returned but the time.

    Args:
        seconds: How long it took.
    """

    seconds: float


def encoded(result: StepResult) -> str:
    """A result as the text of its file."""
    return json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n"


def decoded(kind: type[R], path: Path, *, remedy: str) -> R:
    """Read a file that `encoded` made.

    Args:
        kind: The result's class.
        path: The file.
        remedy: What makes it anew, for the error.

    Raises:
        DataError: If it is damaged.
    """
    try:
        return kind.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # msgspec's is a ValueError
        raise damaged(path, error, remedy) from error


def beside(settings: Settings, model: str) -> str:
    """The model where it is another one than the settings', whose notes stand beside theirs; else empty."""
    return "" if model in ("", settings.train.model) else model


def say(line: str) -> None:
    """A line of progress for people."""
    print(line, file=sys.stderr, flush=True)


def seconds_since(began: float) -> float:
    """Seconds since a moment of `time.monotonic()`, to the millisecond."""
    return round(time.monotonic() - began, 3)
