"""Triton from its wheel, with the Python backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from features.atomic import write_text
from features.errors import LockedError, NotReadyError
from freshrank.stack import addresses
from freshrank.stack.processes import stack_id
from freshrank.stack.server import NotYet, Program, Server, project_root, setup_folder

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient

    from freshrank.settings import Settings

PROBE_MODEL = "freshrank_probe"
STUB = "triton_python_backend_stub"

_PROBE_CONFIG = f"""name: "{PROBE_MODEL}"
backend: "python"
max_batch_size: 0
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ -1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""

_PROBE_CODE = '''"""Answers with twice its input: shows that the server, the stub and arrays between them work."""

import numpy as np
import triton_python_backend_utils as pb_utils

assert int(np.__version__.split(".")[0]) < 2, "arrays arrive wrong under numpy 2"


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * x)]))
        return answers
'''


class TritonServer(Server):
    """One Triton in explicit mode; it loads what lies in the repository when it starts."""

    name = "triton"
    can_be_external = True

    def is_external(self, settings: Settings) -> bool:
        """Whether `triton.url` names one."""
        return addresses.triton_is_external(settings)

    def address(self, settings: Settings) -> str:
        """gRPC's host:port."""
        return addresses.triton_grpc(settings)

    def ports(self, settings: Settings) -> tuple[int, ...]:
        """HTTP, gRPC, metrics."""
        offsets = (addresses.TRITON_HTTP, addresses.TRITON_GRPC, addresses.TRITON_METRICS)
        return tuple(addresses.port(settings, offset) for offset in offsets)

    def programs(self, settings: Settings) -> tuple[Program, ...]:
        """One server process, which starts a stub process for each model instance."""
        http, grpc, metrics = self.ports(settings)
        environment = project_root() / ".envs" / "triton"
        site = environment / "lib" / "python3.11" / "site-packages"
        wheel = site / "pytriton" / "tritonserver"
        layout = setup_folder() / "triton"
        command = (
            str(wheel / "bin" / "tritonserver"),
            f"--model-repository={_as_told(settings)}",
            "--model-control-mode=explicit",
            "--load-model=*",
            "--exit-on-error=false",  # one broken model must not keep the others from serving
            "--strict-readiness=false",
            f"--backend-directory={layout / 'backends'}",
            f"--cache-directory={wheel / 'caches'}",
            f"--backend-config=python,shm-region-prefix-name={_shm_prefix(settings)}",
            # A stub that needs longer than this to import torch makes the load wait for it for ever: 30 s by default,
            # which a busy machine exceeds. Shared memory that has to grow under a stub has crashed it.
            "--backend-config=python,stub-timeout-seconds=600",
            f"--backend-config=python,shm-default-byte-size={32 * 1024 * 1024}",
            *(f"--{kind}-address={addresses.HOST}" for kind in ("http", "grpc", "metrics")),
            *(f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"),
            "--exit-timeout-secs=8",
            *_restrictions(settings),
        )
        variables = {
            # The stub finds its environment by PATH; PYTHONPATH is ignored.
            "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{layout / 'lib'}",
            "OMP_NUM_THREADS": "1",
        }
        return (Program("triton", command, variables, stop_s=15, directory=settings.layout.root),)

    def prepare(self, settings: Settings) -> None:
        """Put the probe's model into the repository; remove what a killed server left."""
        if not (setup_folder() / "triton").exists():
            raise NotReadyError("Triton is missing", remedy="run `make setup`")
        write_text(repository(settings) / PROBE_MODEL / "config.pbtxt", _PROBE_CONFIG)
        write_text(repository(settings) / PROBE_MODEL / "1" / "model.py", _PROBE_CODE)
        remove_leftovers(settings)

    def look(self, settings: Settings) -> str:
        """Whether it scores: its own processes live, and it has what `serving.json` calls live."""
        with _client(settings) as client:
            self._ask_live(client)
            if not self.is_external(settings):
                if lost := lost_stubs(client, settings):
                    raise NotYet(f"a process has died of {', '.join(lost)}; `freshrank up` loads it again")
                _ask_probe(client)
            if missing := [name for name, ready in _wanted(settings, client) if not ready]:
                raise NotYet(f"it does not serve {', '.join(missing)}, which serving.json calls live")
        return ""

    def probe(self, settings: Settings) -> None:
        """Load again what lost its stub, then ask the probe's model and check its answer."""
        with _client(settings) as client:
            self._ask_live(client)
            heal(client, settings)
            _ask_probe(client)

    def _ask_live(self, client: InferenceServerClient) -> None:
        if not client.is_server_live(client_timeout=2):
            raise NotYet("it does not say that it is live")

    def settle(self, settings: Settings) -> None:
        """Make it serve what `serving.json` says, which is the only truth."""
        if settings.layout.serving_state.exists():
            from freshrank.pipeline.deployment import reconcile

            with contextlib.suppress(LockedError):  # a deployment is under way, and does the same
                reconcile(settings)


@contextlib.contextmanager
def _client(settings: Settings) -> Iterator[InferenceServerClient]:
    """A client, closed at the end of the block; what it meets becomes `NotYet`."""
    import tritonclient.grpc as grpc
    from tritonclient.utils import InferenceServerException

    from serving.triton import channel_args

    address = addresses.triton_grpc(settings)
    client = grpc.InferenceServerClient(address, channel_args=channel_args(address))
    try:
        yield client
    except InferenceServerException as error:
        raise NotYet(str(error)[:300]) from error
    finally:
        client.close()


def _ask_probe(client: InferenceServerClient) -> None:
    """Have the probe's model double three numbers."""
    import numpy as np
    import tritonclient.grpc as grpc

    x = np.arange(3, dtype=np.float32)
    tensor = grpc.InferInput("x", [3], "FP32")
    tensor.set_data_from_numpy(x)
    y = client.infer(PROBE_MODEL, [tensor], client_timeout=5).as_numpy("y")
    if y is None or not np.array_equal(y, 2 * x):
        raise NotYet(f"the probe's model answered {y}")


def _wanted(settings: Settings, client: InferenceServerClient) -> list[tuple[str, bool]]:
    """What `serving.json` calls live, each with whether Triton can score with it."""
    from serving.state import ServingFile, VersionState

    versions = ServingFile(settings.layout).read().versions.values()
    live = [(one.triton_model, str(one.version)) for one in versions if one.state is VersionState.LIVE]
    return [(f"{name}/{number}", client.is_model_ready(name, number, client_timeout=5)) for name, number in live]


def repository(settings: Settings) -> Path:
    """The model repository of the local Triton."""
    return settings.triton.repository or settings.layout.triton_repository


def _as_told(settings: Settings) -> Path:
    """The repository as Triton is told of it: below its working folder, the stack's, wherever that allows.

    Triton starts its stubs through a shell and quotes nothing: with a blank or a quote in the path a load never ends.
    """
    folder, root = repository(settings), settings.layout.root
    return folder.relative_to(root) if folder.is_relative_to(root) else folder


def _restrictions(settings: Settings) -> tuple[str, ...]:
    """Close all that changes the server to whoever does not know `triton.admin_key`, where there is one."""
    key = settings.triton.admin_key.get_secret_value()
    rule = f"model-repository,shared-memory,trace,logging:admin-key={key}"
    return (f"--http-restricted-api={rule}", f"--grpc-restricted-protocol={rule}") if key else ()


def _headers(settings: Settings) -> dict[str, str] | None:
    key = settings.triton.admin_key.get_secret_value()
    return {"triton-grpc-protocol-admin-key": key} if key else None


def heal(client: InferenceServerClient, settings: Settings) -> list[str]:
    """Unload and load again models of which a stub has died.

    Triton never starts a killed stub again and goes on calling its model ready; requests to it fail until it is loaded
    anew.

    Args:
        client: A tritonclient gRPC client.
        settings: All settings.

    Returns:
        Names of the models that were loaded again.
    """
    headers, healed = _headers(settings), lost_stubs(client, settings)
    for name in healed:
        client.unload_model(name, headers=headers, client_timeout=30)
        _wait_unloaded(client, name, headers)
        client.load_model(name, headers=headers, client_timeout=300)
    return healed


def lost_stubs(client: InferenceServerClient, settings: Settings) -> list[str]:
    """Names of the models that call themselves ready and have lost a stub: the living ones' command lines name theirs.

    Args:
        client: A tritonclient gRPC client.
        settings: All settings.
    """
    alive, lost = _stub_arguments(_shm_prefix(settings)), []
    for model in client.get_model_repository_index(headers=_headers(settings), client_timeout=5).models:
        file = Path(model.name) / model.version / "model.py"
        python = (repository(settings) / file).exists()
        if model.state == "READY" and python and str(_as_told(settings) / file) not in alive and model.name not in lost:
            lost.append(model.name)
    return lost


def _wait_unloaded(client: InferenceServerClient, name: str, headers: dict[str, str] | None) -> None:
    import time

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        index = client.get_model_repository_index(headers=headers, client_timeout=5).models
        states = {model.state for model in index if model.name == name}
        if not states & {"READY", "UNLOADING"}:
            return
        time.sleep(0.1)


def _stub_arguments(mark: str) -> set[str]:
    """Words of the command lines of a stack's stubs, which the prefix of its shared memory marks."""
    import psutil

    found: set[str] = set()
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or [""]
        if words[0].endswith(STUB) and any(word.startswith(mark) for word in words):
            found.update(words[1:])
    return found


def _shm_prefix(settings: Settings) -> str:
    return f"freshrank_{stack_id(settings.layout.root)}_"


def remove_leftovers(settings: Settings) -> None:
    """Remove what this stack's Triton leaves when it is killed; call it when neither it nor a stub of it lives.

    That is its stubs' shared memory, and an empty folder in `/tmp`, which it makes there whatever the temp directory;
    as those bear no name, they are left while any Triton lives.
    """
    for file in Path("/dev/shm").glob(f"{_shm_prefix(settings)}*"):  # noqa: S108 - where POSIX shared memory is
        file.unlink(missing_ok=True)
    if not _any_triton():
        for folder in Path("/tmp").glob("python_env_*"):  # noqa: S108 - Triton's choice
            with contextlib.suppress(OSError):  # not empty, or another user's
                folder.rmdir()


def _any_triton() -> bool:
    import psutil

    return any(process.info["name"] == "tritonserver" for process in psutil.process_iter(["name"]))
