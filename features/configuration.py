"""Typed configuration from what people write: dataclasses whose fields' types say what is right.

A configuration is a frozen dataclass with a default for every field. One whose fields were renamed has a class variable
`RENAMED`, old name → new one; an old name is refused with the new one. Its types are checked by pydantic, ranges by
`Annotated[int, Field(ge=1)]`; the recipes of models, which travel without pydantic, mark theirs with the `Range` of
`trainer/runtime/models/ranges.py`, which pydantic takes for the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, get_type_hints, runtime_checkable

from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_json, to_jsonable_python

from features.errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

C = TypeVar("C")

Size = Annotated[int, Field(ge=1)]
"""A count of what there has to be."""

Natural = Annotated[int, Field(ge=0)]
"""A count that may be 0."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""Any number."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole."""

Rate = Annotated[Finite, Field(gt=0)]
"""A number above 0."""

Weight = Annotated[Finite, Field(ge=0)]
"""A number that may be 0 and not below."""

# Kind of pydantic's error → what is wrong, and what would be right; other kinds have pydantic's own words.
WORDS = {
    "greater_than_equal": ("out of range", "use {ge:g} or more"),
    "greater_than": ("out of range", "use more than {gt:g}"),
    "less_than_equal": ("out of range", "use at most {le:g}"),
    "less_than": ("out of range", "use less than {lt:g}"),
    "finite_number": ("out of range", "use a finite number"),
    "literal_error": ("not one of the choices", "use {expected}"),
    "missing": ("too few values", "give one more"),
    "too_long": ("too many values", "use at most {max_length}"),
    "dataclass_type": ("wrong type", "use a table"),
    "dict_type": ("wrong type", "use a table"),
    "tuple_type": ("wrong type", "use an array"),
    "string_type": ("wrong type", "use text"),
    "bool_type": ("wrong type", "use true or false"),
    "bool_parsing": ("wrong type", "use true or false"),
    "int_type": ("wrong type", "use a whole number"),
    "int_parsing": ("wrong type", "use a whole number"),
    "float_type": ("wrong type", "use a number"),
    "float_parsing": ("wrong type", "use a number"),
}

_ADAPTERS: dict[type, dict[str, TypeAdapter[object]]] = {}


@runtime_checkable
class FieldErrorLike(Protocol):
    """An error of a dataclass's own about fields that do not go together."""

    what: str
    field: str
    value: object
    remedy: str


def read(kind: type[C], values: Mapping[str, object], *, prefix: str = "", text: bool = False) -> C:
    """A configuration from a mapping; what the mapping leaves out keeps its default, in nested ones too.

    Whole numbers stand for fractions and lists for tuples; apart from that a value has to be of its field's type.

    Args:
        kind: The dataclass.
        values: Field → value, as TOML and JSON have them; mappings for nested dataclasses.
        prefix: Put before field names in errors.
        text: Values are text, as of options of a command: `"7"` is a number where one is asked for.

    Raises:
        UsageError: If a field is unknown or renamed, or a value of the wrong type or out of range; the first is named.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Pages:
        ...     size: int = 20
        ...     margin: float = 1.5
        >>> read(Pages, {"margin": 2})
        Pages(size=20, margin=2.0)
    """
    whole = _over(_defaults(kind), values)
    adapter = TypeAdapter(kind)
    try:
        if text:
            return adapter.validate_python(whole, strict=False, extra="forbid")
        # Strict about JSON is what is wanted of TOML too: an array is a tuple, and neither text nor true is a number.
        return adapter.validate_json(to_json(whole, inf_nan_mode="constants"), strict=True, extra="forbid")
    except ValidationError as error:
        raise _refused(error.errors(include_url=False)[0], kind, prefix) from None


def check(configuration: object, prefix: str = "") -> None:
    """Check types and ranges of a configuration that was made in Python; for a dataclass's `__post_init__`.

    Args:
        configuration: The dataclass's instance.
        prefix: Put before field names in errors.

    Raises:
        UsageError: If a value is of the wrong type or out of range.
    """
    for name, adapter in _adapters(type(configuration)).items():
        try:
            adapter.validate_python(getattr(configuration, name), strict=True)
        except ValidationError as error:
            raise _refused(error.errors(include_url=False)[0], type(configuration), prefix + name) from None


def to_plain(configuration: object) -> dict[str, Any]:
    """The mapping from which `read` makes an equal configuration, secrets apart; it holds JSON's types alone."""
    found: dict[str, Any] = to_jsonable_python(configuration)
    return found


def fields_of(kind: type) -> dict[str, FieldInfo]:
    """The fields of a configuration by name: type without its markers, and description.

    Args:
        kind: The dataclass.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Pages:
        ...     size: Annotated[Size, Field(description="Rows a page.")] = 20
        >>> field = fields_of(Pages)["size"]
        >>> field.annotation, field.description
        (<class 'int'>, 'Rows a page.')
    """
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: FieldInfo.from_annotation(hints[field.name]) for field in dataclasses.fields(kind)}


def _adapters(kind: type) -> dict[str, TypeAdapter[object]]:
    """One a field; made once a class, which takes milliseconds."""
    if kind not in _ADAPTERS:
        hints = get_type_hints(kind, include_extras=True)
        _ADAPTERS[kind] = {f.name: TypeAdapter(hints[f.name]) for f in dataclasses.fields(kind)}
    return _ADAPTERS[kind]


def _defaults(kind: Any) -> dict[str, object]:
    """Defaults of the fields that have one."""
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(kind)
    }


def _over(defaults: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    """The values in plain types, nested ones on top of the field's own default rather than of the nested class's."""
    whole = dict(values)
    for name, value in values.items():
        own = defaults.get(name)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(own):
            whole[name] = vars(own) | _over(vars(own), value)
        elif isinstance(value, SecretStr):
            whole[name] = value.get_secret_value()  # JSON would have its stars
    return whole


def _refused(error: ErrorDetails, kind: type, prefix: str) -> UsageError:
    """One line for one of pydantic's errors; `prefix` is a path without its last dot, or ends in one, or is empty."""
    place, value, context = error["loc"], error["input"], error.get("ctx", {})
    if isinstance(own := context.get("error"), FieldErrorLike):
        return UsageError(own.what, field=_path(prefix, *place, own.field), value=own.value, remedy=own.remedy)
    if error["type"] == "unexpected_keyword_argument":
        owner = _kind_at(kind, *place[:-1])
        if now := getattr(owner, "RENAMED", {}).get(place[-1]):
            return UsageError("renamed", field=_path(prefix, *place), value=value, remedy=f"use {now}")
        remedy = f"use one of: {', '.join(_names(owner))}"
        return UsageError("unknown field", field=_path(prefix, *place), value=value, remedy=remedy)
    what, remedy = WORDS.get(error["type"], ("wrong type", ""))
    remedy = remedy.format(**context) or error["msg"].replace("Input should be", "use")
    if error["type"] == "missing":  # of a tuple: it names the one that lacks
        place = place[:-1]
    return UsageError(what, field=_path(prefix, *place), value=value, remedy=remedy)


def _path(start: str, *parts: int | str) -> str:
    """`a.b[0]`."""
    for part in parts:
        dot = "." if start and not start.endswith(".") else ""
        start += f"[{part}]" if isinstance(part, int) else f"{dot}{part}"
    return start


def _kind_at(kind: Any, *path: int | str) -> Any:
    """The dataclass at this path."""
    for part in path:
        kind = get_type_hints(kind)[str(part)]
    return kind


def _names(kind: Any) -> list[str]:
    """Fields of a dataclass."""
    return sorted(field.name for field in dataclasses.fields(kind) if field.init)
