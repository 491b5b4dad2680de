"""`experiments.toml`: read whole or refused, and never written so that it cannot be read again.

Names may be any text: in TOML a key that is more than letters, digits, `-` and `_` stands in quotes.
"""

from __future__ import annotations

import contextlib
import tomllib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from features import atomic
from features.errors import FreshrankError, UsageError
from features.layout import Layout
from serving.gateway.experiments import Arm, Experiment, Experiments, check

if TYPE_CHECKING:
    from tomlkit.items import Comment, InlineTable, Whitespace

LOCK_TIMEOUT_S = 30.0
MAX_NAME = 100
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of a pair, ends of lines and paragraphs


def experiments_path(layout: Layout) -> Path:
    """Where experiments stand unless `gateway.experiments` says otherwise."""
    return layout.root / "experiments.toml"


def read(path: Path) -> Experiments:
    """Read an experiments file; one that is not there has no experiments.

    Raises:
        UsageError: If it cannot be read, or is wrong.
    """
    return _parse(_content(path), path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        remedy = "mend its rights, or name another in gateway.experiments"
        raise UsageError("cannot be read", field=str(path), value=str(error), remedy=remedy) from error


def _parse(content: bytes, path: Path) -> Experiments:
    try:
        values = tomllib.loads(content.decode())
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
    """Write one experiment, all else as it stands; the file is replaced only by one that reads back the same.

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
        content = _content(path)
        found = _parse(content, path)
        changed = to(found)
        seeded = replace(changed, seed=changed.seed or name)
        wanted = check({**found.experiments, name: seeded})
        text = edited(content.decode(), name, found.experiments.get(name), seeded)
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(part, text.encode())
            if not _same(read(part), wanted):
                remedy = "change the file by hand, and report it"
                raise FreshrankError("what was written reads otherwise", field=name, value=text, remedy=remedy)
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
    """The text of experiments.

    Example:
        >>> print(to_toml({"ranker.v2": Experiment(arms={"a": Arm(0.5, alias="champion")})}), end="")
        ["ranker.v2"]
        seed = "ranker.v2"
        active = true
        <BLANKLINE>
        ["ranker.v2".arms]
        a = {share = 0.5, alias = "champion"}
    """
    import tomlkit

    document = tomlkit.document()
    for name, experiment in experiments.items():
        table, arms = tomlkit.table(), tomlkit.table()
        table.add("seed", experiment.seed or name).add("active", experiment.active).add(tomlkit.nl())
        for arm_name, arm in experiment.arms.items():
            arms.add(arm_name, _inline(arm))
        if document:
            document.add(tomlkit.nl())
        document.add(name, table.add("arms", arms))
    return tomlkit.dumps(document)


def edited(text: str, name: str, old: Experiment | None, new: Experiment) -> str:
    """The file's text with one experiment changed: comments, order and blank lines of all else stay.

    A new experiment comes last. Where its arms are others than before, comments between them go with them.

    Args:
        text: The text that there is.
        name: The experiment.
        old: What the text says of it, or None.
        new: What it is to say.

    Example:
        >>> text = "[r]\\nactive = true  # since May\\n\\n[r.arms]  # ours\\na = { share = 1, alias = 'champion' }\\n"
        >>> old = Experiment(arms={"a": Arm(1, alias="champion")})
        >>> print(edited(text, "r", old, replace(old, active=False)), end="")
        [r]
        active = false  # since May
        <BLANKLINE>
        [r.arms]  # ours
        a = { share = 1, alias = 'champion' }
    """
    if old is None:
        ends = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return text + ends + to_toml({name: new})
    if _ranks(old) != _ranks(new):
        text = _with_arms(text, name, new.arms)
    else:
        text = _with_shares(text, name, {arm: its.share for arm, its in new.arms.items() if its != old.arms[arm]})
    if new.active != old.active:
        text = _with(text, name, "active", new.active)
    if (new.seed or name) != (old.seed or name):
        text = _with(text, name, "seed", new.seed)
    return text


def _ranks(experiment: Experiment) -> list[tuple[str, str | None, str | None]]:
    """What each arm ranks by, in order."""
    return [(name, arm.alias, arm.policy) for name, arm in experiment.arms.items()]


def _inline(arm: Arm) -> InlineTable:
    import tomlkit

    table = tomlkit.inline_table()
    table.update({"share": arm.share, **({"alias": arm.alias} if arm.alias else {"policy": arm.policy})})
    return table


def _with(text: str, name: str, key: str, value: str | bool | InlineTable) -> str:
    """Set a key; one that is new comes first in its table, for comments at the end belong to what follows."""
    import tomlkit
    from tomlkit.items import SingleKey, Table

    document = tomlkit.parse(text)
    table: Any = document[name]
    if key in table or not isinstance(table, Table) or table.is_super_table():
        table[key] = value
    else:
        line = tomlkit.item(value)
        line.trivia.trail = "\n"
        table.value.body.insert(0, (SingleKey(key), line))  # past tomlkit's index of keys: no look-up after this
    return tomlkit.dumps(document)


def _with_shares(text: str, name: str, shares: dict[str, float]) -> str:
    """Set shares of arms that are there."""
    import tomlkit

    document = tomlkit.parse(text)
    table: Any = document[name]
    for arm, share in shares.items():
        table["arms"][arm]["share"] = share
    return tomlkit.dumps(document)


def _with_arms(text: str, name: str, arms: dict[str, Arm]) -> str:
    """Put other arms in place; comments after the last one stay, for they belong to what follows."""
    import tomlkit
    from tomlkit.items import InlineTable, Table

    document = tomlkit.parse(text)
    table: Any = document[name]
    old = table["arms"]
    if not isinstance(old, Table | InlineTable):  # in pieces, of which tomlkit removes all or none
        whole = tomlkit.inline_table()
        whole.update({arm_name: _inline(arm) for arm_name, arm in arms.items()})
        if isinstance(table, Table):
            del table["arms"]
            text = tomlkit.dumps(document)
        return _with(text, name, "arms", whole)
    last = old[list(old)[-1]]
    tail = _tail(last if isinstance(last, Table) else old)
    for arm_name in list(old):
        del old[arm_name]
    for arm_name, arm in arms.items():
        old[arm_name] = _inline(arm)
    if isinstance(old, Table):
        for each in tail:
            old.add(each)
    return tomlkit.dumps(document)


def _tail(table: object) -> list[Comment | Whitespace]:
    """Take comments and blank lines off a table's end."""
    from tomlkit.items import Comment, Table, Whitespace

    found: list[Comment | Whitespace] = []
    if isinstance(table, Table):
        body = table.value.body
        while body and isinstance(last := body[-1][1], Comment | Whitespace):
            found.insert(0, last)
            body.pop()
    return found


def _same(one: Experiments, other: Experiments) -> bool:
    """Whether two files say the same, the order of arms included, for an arm's place decides who is in it."""

    def ordered(experiments: Experiments) -> Iterable[object]:
        return [(name, e.seed or name, e.active, list(e.arms.items())) for name, e in experiments.experiments.items()]

    return ordered(one) == ordered(other)
