"""Scores from Triton: a request's columns as the inputs that the bundle names, and its logits back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.encoded import JsonObject
from features.errors import DataError, FreshrankError
from features.layout import Layout
from serving.inputs import ServedInput, request_inputs
from serving.state import Version
from serving.triton import channel_args, datatype


class ScoringError(FreshrankError):
    """Triton did not score: `str()` says why, for the log and the metrics."""

    code = "scoring"


@dataclass(frozen=True)
class ServedBundle:
    """What the gateway needs to know of a bundle.

    Args:
        bundle: Its id.
        inputs: What its model wants.
        output: The output that ranks.
        feature_service: The feature service that it was trained with.
    """

    bundle: str
    inputs: tuple[ServedInput, ...]
    output: str
    feature_service: str

    @classmethod
    def read(cls, layout: Layout, bundle: str) -> ServedBundle:
        """From the bundle's folder.

        Raises:
            DataError: If the bundle is of an older format.
        """
        folder: Path = layout.bundle(bundle)
        info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        outputs = info["outputs"]
        output = "cvr_logit" if "cvr_logit" in outputs else outputs[0]
        if not all("level" in i for i in info["inputs"]):
            raise DataError(
                "the bundle is of an older format: its inputs tell no level",
                field="bundle",
                value=bundle,
                remedy="make the bundle again: run `freshrank bundle` of its day, and deploy it",
            )
        inputs = tuple(ServedInput(**i) for i in info["inputs"])
        return cls(bundle, inputs, output, manifest["feature_service"])


class Scores:
    """Asks Triton for scores, asynchronously.

    Args:
        url: host:port of its gRPC.
    """

    def __init__(self, url: str) -> None:
        import tritonclient.grpc.aio as grpc

        self._grpc: Any = grpc
        self._client: Any = grpc.InferenceServerClient(url, channel_args=channel_args(url))

    async def score(
        self, served: ServedBundle, version: Version, columns: JsonObject, timeout_s: float
    ) -> Sequence[float]:
        """Logits of the candidates.

        Args:
            served: The bundle.
            version: Where it is loaded.
            columns: Raw columns; what is missing is sent as missing.
            timeout_s: Deadline.

        Raises:
            ScoringError: If Triton refuses, does not answer in time, or answers nonsense.
        """
        from tritonclient.utils import InferenceServerException

        size = len(columns["cand_item"])
        inputs = []
        for name, values in request_inputs(served.inputs, columns, size).items():
            tensor = self._grpc.InferInput(name, list(values.shape), datatype(values))
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        try:
            result = await self._client.infer(
                version.triton_model,
                inputs,
                model_version=str(version.version),
                outputs=[self._grpc.InferRequestedOutput(served.output)],
                client_timeout=timeout_s,
            )
        except InferenceServerException as error:
            raise ScoringError(f"{error.status()}: {error.message()}") from error
        logits = result.as_numpy(served.output)
        if logits is None or logits.shape != (size,) or not np.isfinite(logits).all():
            raise ScoringError("Triton's answer has another shape or is not finite")
        return [float(logit) for logit in logits]

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()
