"""Triton's Python backend: one bundle, scored by the bundle's own code.

A version's folder holds this file as `model.py`, the bundle (`bundle/`) and `runtime.json`. Each version has a process
of its own, so the code of two bundles never meets.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

BUNDLE_ONLY = "bundle_only"  # request parameter: leave out content newer than the bundle, as probes want it


class TritonPythonModel:
    """The class that the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle beside this file."""
        import triton_python_backend_utils as pb_utils  # inside Triton alone

        self.pb_utils = pb_utils
        if int(np.__version__.split(".")[0]) >= 2:
            # The backend's arrays come out wrong under numpy 2, without an error.
            raise pb_utils.TritonModelException(f"numpy {np.__version__} in Triton's environment; install numpy<2")
        folder = Path(args["model_repository"]) / args["model_version"]
        sys.path.insert(0, str(folder / "bundle" / "code"))
        sys.dont_write_bytecode = True  # a version's folder does not change once it is loaded
        import torch

        from trainer.runtime.overlay import Overlay
        from trainer.runtime.scorer import Scorer

        settings = json.loads((folder / "runtime.json").read_text(encoding="utf-8"))
        if settings["threads"]:
            torch.set_num_threads(settings["threads"])
        self.scorer = Scorer(folder / "bundle")
        # This Python takes names of files as ASCII, whatever the locale: what is beyond goes through as bytes.
        tokens = Path(os.fsdecode(settings["tokens"].encode())) if settings["tokens"] else None
        self.overlay = Overlay(self.scorer, tokens)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Score requests one by one; a wrong one gets an error and leaves the others alone."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        pb_utils = self.pb_utils
        try:
            tensors = {i.name: pb_utils.get_input_tensor_by_name(request, i.name) for i in self.scorer.inputs}
            inputs = {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}
            parameters = json.loads(request.parameters() or "{}")
            only = bool(parameters.get(BUNDLE_ONLY))
            self.scorer.content = self.overlay.own if only else self.overlay.content()
            scores = self.scorer.score(inputs)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message))
        outputs = [pb_utils.Tensor(name, scores[name].astype(np.float32)) for name in self.scorer.outputs]
        return pb_utils.InferenceResponse(output_tensors=outputs)
