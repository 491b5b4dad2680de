"""Bundles as versions in Triton's model repository."""

from __future__ import annotations

import contextlib
import json
import os
import py_compile
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features import atomic
from features.errors import DataError, NotReadyError
from features.layout import safe_name
from serving import model_config

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

_TYPES = {"string": "TYPE_STRING", "float": "TYPE_FP32", "int64": "TYPE_INT64"}


def verify(folder: Path) -> None:
    """Check a bundle against its sums.

    Args:
        folder: The bundle.

    Raises:
        NotReadyError: If there is no such bundle.
        DataError: If a file is missing, changed, or not listed.
    """
    from trainer import bundle

    if not folder.is_dir():
        raise NotReadyError("no such bundle", field="bundle", value=folder.name, remedy="run `freshrank bundle` first")
    bundle.verify(folder)


@dataclass(frozen=True)
class ExportedModel:
    """What Triton is told of a bundle.

    Args:
        name: Triton's model name, `<model>_<schema hash>`.
        inputs: (name, Triton type) of each input; all have one dimension.
        outputs: Names of the outputs, FP32 [C].
    """

    name: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]


def describe(folder: Path) -> ExportedModel:
    """Name, inputs and outputs of a bundle, as Triton will have them.

    The hash in the name covers inputs and outputs, so that versions of one model are asked alike.
    """
    info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    return ExportedModel(
        safe_name("model", f"{info['model']}_{info['schema_hash'][:8]}"),
        tuple((i["name"], _TYPES[i["kind"]]) for i in info["inputs"]),
        tuple(info["outputs"]),
    )


class Repository:
    """Triton's model repository on disk.

    Args:
        folder: The repository, as this process and Triton both see it.
        threads: CPU threads of a version's process; 0 leaves it to torch.
        instances: Processes of a version.
    """

    def __init__(self, folder: Path, *, threads: int = 0, instances: int = 1) -> None:
        self.folder, self.threads, self.instances = folder, threads, instances

    def place(self, bundle: Path, model: str, version: int, tokens: Path | None) -> None:
        """Make a version's folder from a bundle; hard links where the file system allows, copies where not.

        Args:
            bundle: The bundle.
            model: Triton's model name.
            version: Its number.
            tokens: Token store with content newer than the bundle, or None.
        """
        with atomic.new_folder(self.folder / safe_name("model", model) / str(version)) as work:
            shutil.copytree(bundle, work / "bundle", copy_function=_link, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(bundle / "code" / "trainer" / "runtime" / "triton_model.py", work / "model.py")
            runtime = {"threads": self.threads, "tokens": str(tokens) if tokens else ""}
            (work / "runtime.json").write_text(json.dumps(runtime), encoding="utf-8")
            # Byte code now: a file that appears after the load makes Triton load the version again with the next one.
            py_compile.compile(str(work / "model.py"), doraise=True)

    def placed(self, model: str, version: int) -> bool:
        """Whether a version's folder is there."""
        return (self.folder / model / str(version) / "model.py").exists()

    def configured(self, model: str) -> bool:
        """Whether a model's `config.pbtxt` is there."""
        return (self.folder / model / "config.pbtxt").exists()

    def configure(self, served: ExportedModel, versions: Iterable[int]) -> None:
        """Write `config.pbtxt` with exactly these versions, so that a restarted Triton loads them, too."""
        wanted = model_config.make(
            served.name, served.inputs, served.outputs, versions=versions, instances=self.instances
        )
        path = self.folder / served.name / "config.pbtxt"
        if not path.exists() or not _says(path, wanted):
            atomic.write_text(path, model_config.text(wanted))

    def select(self, model: str, versions: Sequence[int]) -> None:
        """Change which versions `config.pbtxt` names; its inputs and outputs stay.

        Raises:
            DataError: If the file is no configuration of Triton's.
        """
        path = self.folder / model / "config.pbtxt"
        config = model_config.read(path)
        model_config.select(config, versions)
        if not _says(path, config):
            atomic.write_text(path, model_config.text(config))

    def remove(self, model: str, version: int | None = None) -> None:
        """Remove a version's folder, or the whole model's."""
        folder = self.folder / safe_name("model", model)
        target = folder if version is None else folder / str(version)
        if target.exists():
            gone = target.with_name(f".{target.name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                target.rename(gone)  # at once, so that no half of it is ever loaded
            shutil.rmtree(gone, ignore_errors=True)


def _says(path: Path, wanted: ModelConfig) -> bool:
    """Whether a file says this already, however it is written: one that changes makes Triton look at every version."""
    try:
        return bool(model_config.read(path) == wanted)
    except DataError:
        return False


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target
