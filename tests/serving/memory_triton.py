"""Triton's control side in this process: it reads a repository as Triton does and scores with the bundles' own weights.

The real server is in tests/integration; this one makes hundreds of interrupted deployments affordable.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.triton import TritonError
from trainer.runtime.scorer import Scorer


class MemoryTriton:
    """A server over a repository.

    Args:
        repository: The model repository.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.loaded: dict[str, dict[int, Scorer]] = {}

    def restart(self) -> None:
        """Come up again as with `--load-model=*`: what cannot be loaded is left out."""
        self.loaded = {}
        for path in self.repository.glob("*/config.pbtxt"):
            try:
                self.load(path.parent.name)
            except TritonError:
                continue

    def load(self, model: str) -> None:
        """See `serving.triton.Control`; a load that fails leaves the old versions."""
        config = self.repository / model / "config.pbtxt"
        if not config.exists():
            raise TritonError(f"no config for {model}")
        said = text_format.Parse(config.read_text(encoding="utf-8"), ModelConfig())
        old = self.loaded.get(model, {})
        fresh = {}
        for version in said.version_policy.specific.versions:
            folder = self.repository / model / str(version)
            if not (folder / "model.py").exists():
                raise TritonError(f"{model} {version} has no model.py")
            try:
                fresh[version] = old.get(version) or Scorer(folder / "bundle")
            except Exception as error:
                raise TritonError(str(error)) from error
        self.loaded[model] = fresh

    def unload(self, model: str) -> None:
        """See `serving.triton.Control`."""
        self.loaded.pop(model, None)

    def ready(self, model: str, version: int) -> bool:
        """See `serving.triton.Control`."""
        return version in self.loaded.get(model, {})

    def infer(
        self,
        model: str,
        version: int,
        inputs: Any,
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> dict[str, Any]:
        """See `serving.triton.Control`."""
        return self.loaded[model][version].score(inputs)
