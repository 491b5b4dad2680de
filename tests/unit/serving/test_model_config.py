"""Triton's `config.pbtxt`: what is written says what was meant, and is left where it says that already."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from features.errors import DataError
from serving import model_config
from serving.export import ExportedModel, Repository

SERVED = ExportedModel(
    "camenn_1a2b3c4d", (("cand__item_id", "TYPE_STRING"), ("hour", "TYPE_FP32")), ("cvr_logit", "cvr")
)
# As Triton 2.51 has read it in every release so far.
BY_HAND = """name: "camenn_1a2b3c4d"
backend: "python"
max_batch_size: 0
version_policy: { specific { versions: [ 2, 11 ] } }
input [
  { name: "cand__item_id" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "hour" data_type: TYPE_FP32 dims: [ -1 ] }
]
output [
  { name: "cvr_logit" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "cvr" data_type: TYPE_FP32 dims: [ -1 ] }
]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty model repository, two processes a version."""
    return Repository(tmp_path, instances=2)


def configured(repository: Repository) -> Path:
    """The model's file."""
    return repository.folder / SERVED.name / "config.pbtxt"


def parsed(text: str) -> ModelConfig:
    """What Triton's schema makes of a text; a field that it does not know is an error, as it is to Triton."""
    return text_format.Parse(text, ModelConfig())


def test_the_file_says_what_the_one_written_by_hand_said(repository: Repository) -> None:
    repository.configure(SERVED, {11, 2})
    written = configured(repository).read_text(encoding="utf-8")
    assert parsed(written) == parsed(BY_HAND)
    assert {line.split(":")[0].split()[0] for line in written.splitlines()} <= {
        *("name", "backend", "version_policy", "specific", "versions", "input", "output", "data_type", "dims"),
        *("instance_group", "count", "kind", "}"),
    }


def test_versions_are_changed_and_all_else_stays(repository: Repository) -> None:
    path = configured(repository)
    path.parent.mkdir()
    by_hand = BY_HAND.replace("backend:", '# ours\nparameters { key: "k" value { string_value: "v" } }\nbackend:')
    path.write_text(by_hand, encoding="utf-8")
    repository.select(SERVED.name, [11, 3])
    assert parsed(path.read_text(encoding="utf-8")) == parsed(by_hand.replace("2, 11", "3, 11"))


def test_a_file_that_says_it_already_is_left_as_it_is(repository: Repository) -> None:
    path = configured(repository)
    path.parent.mkdir()
    path.write_text(BY_HAND, encoding="utf-8")
    repository.select(SERVED.name, [11, 2])
    repository.configure(SERVED, {2, 11})
    assert path.read_text(encoding="utf-8") == BY_HAND


@pytest.mark.parametrize("content", [b'name: "x', b"no_such_field: 1\n", b'name: "\xe4"\n'])
def test_a_file_that_is_no_configuration_is_refused_and_replaced_by_the_next_deployment(
    repository: Repository, content: bytes
) -> None:
    path = configured(repository)
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"config\.pbtxt"):
        repository.select(SERVED.name, [1])
    assert path.read_bytes() == content
    repository.configure(SERVED, {1})
    assert list(model_config.read(path).version_policy.specific.versions) == [1]
