"""Scalars of events, such as a context's fields, as text and as numbers: alike in SQL (training) and Python (serving).

A number becomes a category by its text, so the text must not depend on who writes it: whole numbers are their digits,
others the shortest decimal that gives the same float64, as Python writes it.
"""

from __future__ import annotations

from features.events import Scalar

LARGEST = 3.4028234663852886e38  # of float32, which is what models get


def text(value: Scalar) -> str | None:
    """A scalar as text; null stays null.

    Args:
        value: As the event has it.

    Example:
        >>> [text(value) for value in ("a", True, 9, 9.0, 1e20, 1e-7, None)]
        ['a', 'true', '9', '9.0', '1e+20', '1e-07', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def text_sql(json: str, field: str) -> str:
    """SQL of `text` of one field of a JSON object.

    Args:
        json: SQL of the object, as the event log keeps it.
        field: The field's name; letters, digits and `_`, as settings allow.
    """
    path = f"'$.\"{field}\"'"
    found = f"json_extract_string({json}, {path})"
    # whole numbers beyond 64 bits have the type of floats and their own digits
    return (
        f"CASE WHEN json_type({json}, {path}) = 'DOUBLE' AND NOT regexp_full_match({found}, '-?[0-9]+') "
        f"THEN {found}::DOUBLE::VARCHAR ELSE {found} END"
    )


def number_sql(json: str, field: str) -> str:
    """SQL of one field of a JSON object as a number, also where it is written as text; null where it is none.

    Infinities, NaN and numbers that a float32 cannot hold are none.

    Args:
        json: SQL of the object, as the event log keeps it.
        field: The field's name; letters, digits and `_`, as settings allow.
    """
    found = f"try_cast(json_extract_string({json}, '$.\"{field}\"') AS DOUBLE)"
    return f"CASE WHEN abs({found}) <= {LARGEST!r} THEN {found} END"
