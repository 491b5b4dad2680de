"""Variables of the environment: which are settings, which are other programs', which are misspelt.

Kubernetes puts the addresses of every Service of a namespace into the environment of each container, named after the
Service. One called `freshrank` or `freshrank-gateway` makes variables that begin like our settings and are none. They
are told by the shape of name and value together, so that a setting with a slip in its name stays an error.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from features.configuration import fields_of
from features.errors import UsageError
from features.settings import Section

PREFIX = "FRESHRANK_"
RENAMED = {  # a setting's name before → its name now
    "train.evaluations": "train.validations_per_epoch",
    "train.valid_requests": "train.validation_requests",
}
OURS = frozenset({PREFIX + "SETTINGS", PREFIX + "STACK_ID"})  # no settings, and yet ours

_URL = re.compile(r"(?:tcp|udp|sctp)://\S+:\d+")
_SHAPES = (  # end of a name → what its value looks like, for a Service's variables
    (re.compile(r"_SERVICE_HOST"), lambda text: _is_address(text)),
    (re.compile(r"_SERVICE_PORT(_[A-Z0-9_]+)?"), str.isdigit),
    (re.compile(r"_PORT"), _URL.fullmatch),
    (re.compile(r"_PORT_\d+_(TCP|UDP|SCTP)"), _URL.fullmatch),
    (re.compile(r"_PORT_\d+_(TCP|UDP|SCTP)_PROTO"), ("tcp", "udp", "sctp").__contains__),
    (re.compile(r"_PORT_\d+_(TCP|UDP|SCTP)_PORT"), str.isdigit),
    (re.compile(r"_PORT_\d+_(TCP|UDP|SCTP)_ADDR"), lambda text: _is_address(text)),
)


@dataclass(frozen=True)
class Variable:
    """A variable that sets something.

    Args:
        name: As it stands in the environment.
        path: The setting's, or a whole section's, dotted name.
        text: Its value.
        is_json: Whether the value is read as JSON: those of sections, lists and tables are.
    """

    name: str
    path: str
    text: str
    is_json: bool

    @property
    def depth(self) -> int:
        """How deep the setting lies: a section's own variable comes before its settings'."""
        return self.path.count(".")

    def decoded(self) -> Any:
        """Its value.

        Raises:
            UsageError: If it has to be JSON and is not.
        """
        if not self.is_json:
            return self.text
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise UsageError(  # the text may hold a password
                f"not JSON ({error})", field=self.name, value=f"{len(self.text)} characters",
                remedy='write a list as ["a", "b"], a table as {"name": "value"}, in quotes for the shell',
            ) from error  # fmt: skip


def variable_of(path: str) -> str:
    """The variable that sets a dotted name.

    Example:
        >>> variable_of("train.seed")
        'FRESHRANK_TRAIN__SEED'
    """
    return PREFIX + path.upper().replace(".", "__")


def shown(name: str, value: object) -> object:
    """A value for an error's line: three stars where the name, perhaps misspelt, sounds like a secret's.

    Example:
        >>> shown("redis.passwort", "hunter2"), shown("train.seed", -1)
        ('***', -1)
    """
    return "***" if re.search(r"passw|secret|token|key", name, re.IGNORECASE) else value


def is_of_a_service(name: str, value: str) -> bool:
    """Whether Kubernetes made this variable, from a Service whose name begins with `freshrank`.

    Example:
        >>> is_of_a_service("FRESHRANK_PORT", "tcp://10.0.0.1:80"), is_of_a_service("FRESHRANK_PORT", "17000")
        (True, False)
    """
    stem = PREFIX.rstrip("_")
    for shape, fits in _SHAPES:
        found = re.fullmatch(rf"{stem}(?:_[A-Z0-9_]+?)?{shape.pattern}", name)
        if found and fits(value):
            return True
    return False


def variables(kind: type[Section], environ: Mapping[str, str]) -> list[Variable]:
    """The variables that set something; those of Kubernetes' Services are passed over.

    Args:
        kind: The class of all settings.
        environ: The environment.

    Raises:
        UsageError: If a variable begins like a setting and is none, or is one's old name, or has to be JSON and is not,
            or stands there in upper case and in lower case.
    """
    known = {variable_of(path): (path, is_json) for path, is_json in _paths(kind)}
    before = {variable_of(old): variable_of(new) for old, new in RENAMED.items()}
    found: dict[str, Variable] = {}
    for name, text in environ.items():
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in OURS:
            continue
        if upper in known:
            if upper in found:
                raise UsageError("set twice", field=found[upper].name, value=name, remedy="unset one of the two")
            found[upper] = Variable(name, known[upper][0], text, known[upper][1])
            found[upper].decoded()
        elif upper in before:
            raise UsageError("renamed", field=name, value=shown(name, text), remedy=f"use {before[upper]}")
        elif not is_of_a_service(name, text):
            raise UsageError(
                "unknown setting", field=name, value=shown(name, text),
                remedy="see `freshrank settings` for the names, or unset it",
            )  # fmt: skip
    return list(found.values())


def over(values: Mapping[str, object], ours: Iterable[Variable]) -> dict[str, object]:
    """The file's values with those of the environment on top; tables are merged.

    Args:
        values: What the settings file says.
        ours: The variables; of two that name the same setting the one with the longer path wins.

    Example:
        >>> seed = Variable("FRESHRANK_TRAIN__SEED", "train.seed", "7", is_json=False)
        >>> over({"train": {"seed": 5, "epochs": 3}}, [seed])
        {'train': {'seed': '7', 'epochs': 3}}
    """
    whole = dict(values)
    for variable in sorted(ours, key=lambda one: one.depth):
        value = variable.decoded()
        for name in reversed(variable.path.split(".")):
            value = {name: value}
        whole = _merged(whole, value)
    return whole


def section_of(field: FieldInfo) -> type[Section] | None:
    """The class of a field that is a section of settings, or None for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    whole = dict(below)
    for name, value in above.items():
        under = whole.get(name)
        whole[name] = _merged(under, value) if isinstance(value, Mapping) and isinstance(under, Mapping) else value
    return whole


def _paths(kind: type[Section], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted names of all sections and settings, each with whether a variable of it is read as JSON."""
    for name, field in fields_of(kind).items():
        section = section_of(field)
        yield prefix + name, bool(section) or get_origin(field.annotation) in (dict, tuple, list)
        if section:
            yield from _paths(section, f"{prefix}{name}.")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
