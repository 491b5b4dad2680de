"""Triton's control side: load, unload, ready, one inference. Its data side is the gateway's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from features.errors import FreshrankError, UnreachableError
from features.proxies import channel_options

if TYPE_CHECKING:
    from tritonclient.grpc import InferInput

    from trainer.runtime.encoding import Array

Arrays = Mapping[str, npt.NDArray[np.generic]]
INFER_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 300.0


class TritonError(FreshrankError):
    """Triton answered, but with a refusal."""

    exit_code, code = 3, "triton"


class Control(Protocol):
    """What a deployment asks of Triton."""

    def load(self, model: str) -> None:
        """Make Triton serve the versions that the model's `config.pbtxt` on disk names."""

    def unload(self, model: str) -> None:
        """Make Triton forget a model with all its versions."""

    def ready(self, model: str, version: int) -> bool:
        """Whether a version can score."""

    def infer(
        self, model: str, version: int, inputs: Arrays, parameters: Mapping[str, object]
    ) -> dict[str, npt.NDArray[np.generic]]:
        """Score one request: input name → values, output name → float32 values."""


class TritonClient:
    """A Triton server by gRPC.

    Args:
        url: host:port of its gRPC.
        admin_key: Value of the header that opens the model repository, where the server restricts it.
    """

    def __init__(self, url: str, admin_key: str = "") -> None:
        import tritonclient.grpc as grpc

        self._grpc, self.url = grpc, url
        self._client = grpc.InferenceServerClient(url, channel_args=channel_args(url))
        self._headers = {"triton-grpc-protocol-admin-key": admin_key} if admin_key else None

    def live(self) -> bool:
        """Whether the server answers."""
        try:
            return bool(self._call("is_server_live", client_timeout=5.0))
        except UnreachableError:
            return False

    def load(self, model: str) -> None:
        """See `Control`."""
        self._call("load_model", model, headers=self._headers, client_timeout=LOAD_TIMEOUT_S)

    def unload(self, model: str) -> None:
        """See `Control`."""
        self._call("unload_model", model, headers=self._headers, client_timeout=LOAD_TIMEOUT_S)

    def ready(self, model: str, version: int) -> bool:
        """See `Control`."""
        return bool(self._call("is_model_ready", model, str(version), client_timeout=10.0))

    def infer(self, model: str, version: int, inputs: Arrays, parameters: Mapping[str, object]) -> dict[str, Array]:
        """See `Control`."""
        result = self._call(
            "infer",
            model,
            [self._input(name, values) for name, values in inputs.items()],
            model_version=str(version),
            parameters=dict(parameters),
            client_timeout=INFER_TIMEOUT_S,
        )
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def _input(self, name: str, values: npt.NDArray[np.generic]) -> InferInput:
        tensor = self._grpc.InferInput(name, list(values.shape), datatype(values))
        tensor.set_data_from_numpy(values)
        return tensor

    def _call(self, method: str, *args: object, **kwargs: object) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, method)(*args, **kwargs)
        except InferenceServerException as error:
            status = str(error.status() or "")
            if any(word in status for word in ("UNAVAILABLE", "DEADLINE", "CANCELLED")):
                raise UnreachableError(
                    f"Triton does not answer ({error.message()})",
                    field="triton.url",
                    value=self.url,
                    remedy="start it (`freshrank up`) or mend the address",
                ) from error
            raise TritonError(
                f"Triton refused {method}: {error.message()}", field="model", value=args[0] if args else "",
                remedy="see Triton's log",
            ) from error  # fmt: skip


def channel_args(url: str) -> list[tuple[str, int]]:
    """Options of a gRPC channel to Triton: messages of any size, and no proxy before a loopback address.

    Args:
        url: host:port of its gRPC.
    """
    return [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), *channel_options(url)]


def datatype(values: npt.NDArray[np.generic]) -> str:
    """Triton's name of an array's type."""
    kinds = {"O": "BYTES", "f": "FP32", "i": "INT64"}
    if values.dtype not in (np.dtype(object), np.dtype(np.float32), np.dtype(np.int64)):
        raise ValueError(f"no Triton type for {values.dtype}")
    return kinds[values.dtype.kind]
