"""`experiments.toml`: read whole or refused, and never written so that it cannot be read again.

Names may be any text: in TOML a key that is more than letters, digits, `-` and `_` stands in quotes.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from features import atomic
from features.errors import FreshrankError, UsageError
from features.layout import Layout
from serving.gateway.experiments import Experiment, Experiments, check

LOCK_TIMEOUT_S = 30.0
MAX_NAME = 100
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of a pair, ends of lines and paragraphs


def experiments_path(layout: Layout) -> Path:
    """Where experiments stand unless `gateway.experiments` says otherwise."""
    return layout.root / "experiments.toml"


def read(path: Path) -> Experiments:
    """Read an experiments file; one that is not there has no experiments.

    Raises:
        UsageError: If it cannot be read, or is wrong.
    """
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return Experiments({})
    except OSError as error:
        remedy = "mend its rights, or name another in gateway.experiments"
        raise UsageError("cannot be read", field=str(path), value=str(error), remedy=remedy) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        value = f"byte 0x{error.object[error.start]:02x} in line {line}"
        raise UsageError("not UTF-8", field=str(path), value=value, remedy="save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError("not TOML", field=str(path), value=str(error), remedy="mend the line it names") from error
    return check({name: parse(name, value, f"mend it in {path}") for name, value in values.items()})


def parse(name: str, values: object, remedy: str) -> Experiment:
    """An experiment of plain values.

    Args:
        name: Its name.
        values: What TOML or a command says of it.
        remedy: What the user can do where they are wrong.

    Raises:
        UsageError: If they are wrong.
    """
    try:
        return TypeAdapter(Experiment).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in (name, *first["loc"]))
        raise UsageError(first["msg"], field=field, value=first.get("input"), remedy=remedy) from error


def change(layout: Layout, path: Path, name: str, to: Callable[[Experiments], Experiment]) -> Experiment:
    """Write one experiment, the others as they are; the file is replaced only by one that reads back the same.

    Args:
        layout: Folders of the stack, for the lock.
        path: The experiments file.
        name: The experiment.
        to: From what there is to what the experiment is to be.

    Returns:
        The experiment as written.

    Raises:
        UsageError: If the file that is there is wrong, or the result would be; the file then stays as it is.
        LockedError: If another change does not end.
        FreshrankError: If what was written reads otherwise; the file stays as it is.
    """
    with atomic.lock(layout.lock("experiments"), timeout_s=LOCK_TIMEOUT_S):
        found = read(path)
        changed = to(found)
        seeded = replace(changed, seed=changed.seed or name)
        wanted = check({**found.experiments, name: seeded})
        text = to_toml(wanted.experiments)
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(part, text.encode())
            if not _same(read(part), wanted):
                raise FreshrankError("what was written reads otherwise", field=name, value=text, remedy="report it")
            atomic.publish(part, path)
        except UnicodeEncodeError as error:
            raise UsageError("not text", field=name, value=ascii(name), remedy="write it in UTF-8") from error
        except OSError as error:
            raise UsageError(
                "cannot be written", field=str(path), value=str(error), remedy="mend its rights"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return seeded


def check_name(name: str) -> None:
    """Refuse a name for a new experiment that nobody could tell from another on a screen.

    Raises:
        UsageError: If it is empty, too long, begins or ends with a blank, or has control characters.
    """
    unseen = any(unicodedata.category(each) in _UNSEEN for each in name)
    if not 1 <= len(name) <= MAX_NAME or name != name.strip() or unseen:
        remedy = f"use up to {MAX_NAME} characters, no control characters, no blank at either end"
        raise UsageError("not a name for an experiment", field="name", value=name, remedy=remedy)


def to_toml(experiments: dict[str, Experiment]) -> str:
    """The file's text.

    Example:
        >>> print(to_toml({"ranker.v2": Experiment(arms={"a": {"share": 0.5, "alias": "champion"}})}), end="")
        ["ranker.v2"]
        seed = "ranker.v2"
        active = true
        <BLANKLINE>
        ["ranker.v2".arms]
        a = { share = 0.5, alias = "champion" }
    """
    lines: list[str] = []
    for name, experiment in experiments.items():
        lines += [
            f"[{_key(name)}]",
            f"seed = {_quoted(experiment.seed or name)}",
            f"active = {str(experiment.active).lower()}",
        ]
        lines += ["", f"[{_key(name)}.arms]"]
        for arm_name, arm in experiment.arms.items():
            ranks = f"alias = {_quoted(arm.alias)}" if arm.alias else f"policy = {_quoted(arm.policy)}"
            lines.append(f"{_key(arm_name)} = {{ share = {arm.share!r}, {ranks} }}")
        lines.append("")
    return "\n".join(lines)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: Any) -> str:
    """A basic string of TOML: JSON's, but for DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _same(one: Experiments, other: Experiments) -> bool:
    """Whether two files say the same, the order of arms included, for an arm's place decides who is in it."""

    def ordered(experiments: Experiments) -> Iterable[Any]:
        return [(name, e.seed or name, e.active, list(e.arms.items())) for name, e in experiments.experiments.items()]

    return ordered(one) == ordered(other)
