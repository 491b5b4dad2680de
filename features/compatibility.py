"""What of an event schema may change without breaking producers and readers that follow the old one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from features.atomic import write_text
from features.encoded import JsonObject
from features.errors import DataError
from features.events import EVENTS, SCHEMA_VERSION, json_schema

FOLDER = Path(__file__).parent / "schemas"
_LIMITS = {
    "minimum": 1,
    "exclusiveMinimum": 1,
    "minLength": 1,
    "minItems": 1,
    "maximum": -1,
    "maxLength": -1,
    "maxItems": -1,
}


def incompatibilities(old: JsonObject, new: JsonObject) -> list[str]:
    """Reasons why events that were valid by the old schema would be refused or lose a field by the new one.

    Args:
        old: JSON Schema before.
        new: JSON Schema after.

    Returns:
        One line a reason; empty if the new schema can take the old one's place under the same version.

    Example:
        >>> incompatibilities({"properties": {"a": {}}}, {"properties": {"a": {}, "b": {}}, "required": ["b"]})
        ['$.b: became required']
    """
    return list(_compare("$", old, new, old.get("$defs", {}), new.get("$defs", {})))


def _compare(
    path: str, old: dict[str, object], new: dict[str, object], old_defs: dict[str, object], new_defs: dict[str, object]
) -> Iterator[str]:
    before, after = _branches(old, old_defs), _branches(new, new_defs)
    for kind, part in before.items():
        taken = after.get(kind) or (after.get("number") if kind == "integer" else None) or after.get("any")
        if taken is None:
            yield f"{path}: no longer takes {kind}"
        else:
            yield from _compare_branch(path, part, taken, old_defs, new_defs)


def _compare_branch(
    path: str, old: JsonObject, new: JsonObject, old_defs: JsonObject, new_defs: JsonObject
) -> Iterator[str]:
    for name in new.get("required", []):
        if name not in old.get("required", []):
            yield f"{path}.{name}: became required"
    for name, part in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}.{name}: removed"
        else:
            yield from _compare(f"{path}.{name}", part, new["properties"][name], old_defs, new_defs)
    for limit, sign in _LIMITS.items():
        if limit in new and (limit not in old or sign * new[limit] > sign * old[limit]):
            yield f"{path}: {limit} became {new[limit]}"
    if new.get("pattern") not in (None, old.get("pattern")):
        yield f"{path}: pattern became {new['pattern']}"
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
            yield from _compare(f"{path}[]", old[inner], new[inner], old_defs, new_defs)


def _branches(schema: JsonObject, defs: JsonObject) -> dict[str, JsonObject]:
    """The alternatives of a schema by JSON type; `any` where it names none."""
    found = {}
    for part in schema.get("anyOf", [schema]):
        resolved = defs[part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
        found[str(resolved.get("type", "any"))] = resolved
    return found


def write_schemas(folder: Path = FOLDER) -> list[Path]:
    """Write every topic's JSON Schema.

    Args:
        folder: Where to; what lies there is what the new ones must be compatible with.

    Returns:
        The files that changed.

    Raises:
        DataError: If a schema breaks with the one there while the version stayed the same.
    """
    changed = []
    for topic in EVENTS:
        file, new = folder / f"{topic}.json", json_schema(topic)
        text = json.dumps(new, indent=2) + "\n"
        if file.exists():
            old = json.loads(file.read_text(encoding="utf-8"))
            broken = incompatibilities(old, new) if old["title"] == new["title"] else []
            if broken:
                raise DataError(
                    f"{topic} is not compatible with version {SCHEMA_VERSION}", field="schema", value=broken[0],
                    remedy="keep the field, or raise SCHEMA_VERSION and read both",
                )  # fmt: skip
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)
            changed.append(file)
    return changed
