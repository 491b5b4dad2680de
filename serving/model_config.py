"""Triton's `config.pbtxt`: the message it is, made, read and written as the server's own schema has it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import DataError

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig


def make(
    name: str, inputs: Iterable[tuple[str, str]], outputs: Iterable[str], *, versions: Iterable[int], instances: int
) -> ModelConfig:
    """The configuration of a model.

    Args:
        name: Its name.
        inputs: (name, Triton type) of each input; all have one dimension.
        outputs: Names of the outputs, FP32 [C].
        versions: The versions that Triton is to have, in any order.
        instances: Processes of a version.
    """
    from tritonclient.grpc import model_config_pb2 as schema

    made = schema.ModelConfig(
        name=name,
        backend="python",
        max_batch_size=0,  # inputs come as the model has them, no dimension before theirs
        input=[schema.ModelInput(name=each, data_type=kind, dims=[-1]) for each, kind in inputs],
        output=[schema.ModelOutput(name=each, data_type="TYPE_FP32", dims=[-1]) for each in outputs],
        instance_group=[schema.ModelInstanceGroup(count=instances, kind="KIND_CPU")],
    )
    select(made, versions)
    return made


def select(config: ModelConfig, versions: Iterable[int]) -> None:
    """Change which versions a configuration names; all else stays."""
    config.version_policy.specific.versions[:] = sorted(versions)


def read(path: Path) -> ModelConfig:
    """Read a `config.pbtxt`.

    Raises:
        DataError: If it is none, or says what the schema does not know.
    """
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        remedy = "remove the file, then run `freshrank up`, which writes it anew"
        raise DataError("no configuration of Triton's", field=str(path), value=str(error), remedy=remedy) from error


def text(config: ModelConfig) -> str:
    """A configuration as `config.pbtxt` has it; what is zero is left out, which says the same."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config, as_utf8=True, use_short_repeated_primitives=True))
