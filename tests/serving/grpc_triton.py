"""A server that speaks Triton's gRPC in this process: what a client needs, without models."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc


class _Answers(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Is live, has every model, and scores the n-th candidate with n."""

    def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        size = next(i.shape[0] for i in request.inputs if i.name.startswith("cand__"))
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        for output in request.outputs:
            answer.outputs.add(name=output.name, datatype="FP32", shape=[size])
            answer.raw_output_contents.append(np.arange(size, dtype=np.float32).tobytes())
        return answer


@contextmanager
def serve() -> Iterator[str]:
    """The server while the block runs.

    Yields:
        Its host:port.
    """
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Answers(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
