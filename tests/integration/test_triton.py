"""Triton does what deploying a new version beside the old one is built on."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from freshrank.stack.servers.triton import PROBE_MODEL
from serving.triton import channel_args
from tests.stack import Stack, own_stack, until

pytestmark = pytest.mark.integration

CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 0
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ -1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
version_policy: {{ specific {{ versions: {versions} }} }}
"""
CODE = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x * {factor})]) for x in inputs]
"""


class Model:
    """A model in the stack's repository whose version v answers with v times its input."""

    def __init__(self, stack: Stack, name: str) -> None:
        settings = stack.need("triton")
        assert settings.triton.repository is not None
        self.name, self.folder = name, settings.triton.repository / name
        self.client = grpc.InferenceServerClient(settings.triton.url, channel_args=channel_args(settings.triton.url))

    def write(self, *versions: int) -> None:
        for version in versions:
            code = self.folder / str(version) / "model.py"
            code.parent.mkdir(parents=True, exist_ok=True)
            code.write_text(CODE.format(factor=f"{version}.0"), encoding="utf-8")
        (self.folder / "config.pbtxt").write_text(
            CONFIG.format(name=self.name, versions=list(versions)), encoding="utf-8"
        )
        self.client.load_model(self.name)

    def ask(self, version: int = 0) -> float:
        tensor = grpc.InferInput("x", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, dtype=np.float32))
        answer = self.client.infer(self.name, [tensor], model_version=str(version or ""), client_timeout=10)
        return float(answer.as_numpy("y")[0])

    def versions(self) -> list[int]:
        index = self.client.get_model_repository_index().models
        return sorted(int(one.version) for one in index if one.name == self.name and one.state == "READY")


def test_two_versions_serve_side_by_side_and_the_swap_loses_no_request(stack: Stack) -> None:
    model = Model(stack, "trial_swap")
    model.write(1)
    assert model.ask() == 1.0
    model.write(1, 2)
    assert (model.ask(1), model.ask(2)) == (1.0, 2.0)

    answers: list[float] = []
    errors: list[Exception] = []
    stop = threading.Event()

    def traffic() -> None:
        other = Model(stack, "trial_swap")
        while not stop.is_set():
            try:
                answers.append(other.ask(2))
            except InferenceServerException as error:
                errors.append(error)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        until(lambda: len(answers) > 50, "traffic")
        model.write(2, 3)
        assert (model.ask(3), model.ask()) == (3.0, 3.0)
        seen = len(answers)
        until(lambda: len(answers) > seen + 50, "traffic after the swap")
    finally:
        stop.set()
        thread.join()
    assert not errors
    assert set(answers) == {2.0}
    until(lambda: model.versions() == [2, 3], "version 1 to be unloaded")
    with pytest.raises(InferenceServerException):
        model.ask(1)
    model.client.unload_model(model.name)


def test_a_killed_stub_is_found_and_its_model_loaded_again(stack: Stack) -> None:
    model = Model(stack, "trial_stub")
    model.write(4)
    stubs = [
        pid
        for pid in stack.pids("triton")
        if f"/{model.name}/4/model.py" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    ]
    assert len(stubs) == 1
    os.kill(stubs[0], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{stubs[0]}/exe").exists(), "the stub to be gone")
    stack.up("triton")
    assert model.ask() == 4.0
    model.client.unload_model(model.name)


def test_a_killed_server_comes_back_with_its_models(stack: Stack) -> None:
    model = Model(stack, "trial_restart")
    model.write(5, 6)
    before = set(stack.pids("triton"))
    stack.kill("triton")
    until(lambda: set(stack.pids("triton")) - before, "the supervisor to start it again")
    stack.up("triton")
    again = Model(stack, "trial_restart")
    until(lambda: again.versions() == [5, 6], "both versions")
    assert (again.ask(5), again.ask(6)) == (5.0, 6.0)
    index = again.client.get_model_repository_index().models
    assert any(one.name == PROBE_MODEL and one.state == "READY" for one in index)
    again.client.unload_model(again.name)


def test_with_a_key_the_model_repository_is_closed_to_whoever_has_none() -> None:
    with own_stack("keyed") as own:
        own.extra["FRESHRANK_TRITON__ADMIN_KEY"] = "a-key"
        url = own.need("triton").triton.url
        client = grpc.InferenceServerClient(url, channel_args=channel_args(url))
        with pytest.raises(InferenceServerException, match="restricted"):
            client.unload_model(PROBE_MODEL)
        client.unload_model(PROBE_MODEL, headers={"triton-grpc-protocol-admin-key": "a-key"})
