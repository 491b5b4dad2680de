"""The committed JSON Schemas: they are the structs', and a change that breaks their followers is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from features.compatibility import FOLDER, incompatibilities, write_schemas
from features.errors import DataError
from features.events import EVENTS, json_schema


def committed(topic: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((FOLDER / f"{topic}.json").read_text(encoding="utf-8"))
    return schema


@pytest.mark.parametrize("topic", EVENTS)
def test_the_committed_schema_is_the_structs(topic: str) -> None:
    assert json_schema(topic) == committed(topic), "run `freshrank topics schemas`"


@pytest.mark.parametrize("topic", EVENTS)
def test_a_schema_is_compatible_with_itself(topic: str) -> None:
    assert incompatibilities(committed(topic), json_schema(topic)) == []


def changed(topic: str, change: str) -> dict[str, Any]:
    schema = copy.deepcopy(committed(topic))
    properties = schema["properties"]
    match change:
        case "removed":
            del properties["context"]
        case "required":
            schema["required"].append("policy")
        case "added and required":
            properties["shop_id"] = {"type": "string"}
            schema["required"].append("shop_id")
        case "type":
            properties["request_id"] = {"type": "integer"}
        case "no longer null":
            properties["bundle_id"] = {"type": "string"}
        case "tighter":
            properties["user_id"]["maxLength"] = 10
        case "pattern":
            properties["user_id"]["pattern"] = "^[0-9]+$"
        case "deep":
            schema["$defs"]["Shown"]["required"].append("score")
        case "deep removed":
            del schema["$defs"]["Shown"]["properties"]["propensity"]
    return schema


@pytest.mark.parametrize(
    "change",
    [
        "removed", "required", "added and required", "type", "no longer null", "tighter", "pattern", "deep",
        "deep removed",
    ],
)  # fmt: skip
def test_what_breaks_producers_or_readers_is_found(change: str) -> None:
    assert len(incompatibilities(committed("impressions"), changed("impressions", change))) == 1


def test_a_new_optional_field_and_a_wider_limit_break_nothing() -> None:
    schema = copy.deepcopy(committed("impressions"))
    schema["properties"]["device"] = {"type": "string"}
    schema["properties"]["user_id"]["maxLength"] = 1000
    schema["properties"]["user_id"] = {"anyOf": [schema["properties"]["user_id"], {"type": "null"}]}
    assert incompatibilities(committed("impressions"), schema) == []


def test_writing_refuses_to_break_a_version(tmp_path: Path) -> None:
    assert {file.name for file in write_schemas(tmp_path)} == {f"{topic}.json" for topic in EVENTS}
    assert write_schemas(tmp_path) == []
    file = tmp_path / "clicks.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    schema["properties"]["colour"] = {"type": "string"}
    file.write_text(json.dumps(schema), encoding="utf-8")
    with pytest.raises(DataError, match=r"clicks is not compatible.*colour: removed"):
        write_schemas(tmp_path)
