"""Start the workers of a training on this machine, and say how they ended.

`launch` starts a process of its own, the launcher: torchrun's agent, asked what became of each worker, which torchrun's
command line does not tell.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from features import atomic
from trainer.attempts import Attempt, peak_memory
from trainer.job import Job


def launch(job: Job, workers: int, folder: Path) -> None:
    """Start the workers and wait; they die with this process.

    Args:
        job: The training; `job.json` in its folder says the same.
        workers: How many.
        folder: Where they run.

    Raises:
        FreshrankError: What a worker ended with, in its own words.
        WorkerDiedError: If one was killed: trying again goes on from the newest checkpoint.
        UsageError: If that is the second time after the same checkpoint.
        TrainingError: If one ended by a bug.
    """
    attempt = Attempt(job)
    attempt.begin()
    threads = str(job.settings.threads)
    environ = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    environ["TMPDIR"] = str(attempt.temporary)
    command = [sys.executable, "-m", "trainer.launch", str(job.folder / "job.json"), str(workers)]
    # the workers' words are progress for people: all of them go to stderr (2)
    process = subprocess.Popen(command, env=environ, cwd=folder, stdout=2, preexec_fn=_die_with_parent)
    try:
        with _stop_on_request():
            code = process.wait()
        path = attempt.folder / "ended.json"
        ended = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        error = attempt.judge(code, dict(ended.get("workers", [])), ended.get("peak", 0))
    except BaseException:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    finally:
        attempt.end()
    if error:
        raise error


@contextlib.contextmanager
def _stop_on_request() -> Iterator[None]:
    """SIGTERM unwinds this process, so that a stop on request leaves nothing and counts as no death."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        sys.exit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: whoever calls it has handlers of its own
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> None:
    """The launcher: `python -m trainer.launch <job.json> <workers>`."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # `ended.json` says it better
    file, workers = Path(sys.argv[1]), int(sys.argv[2])
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        run_id=file.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "trainer.train", str(file))
    except ChildFailedError as error:
        failures: Any = error.failures  # in the order in which they were seen
        ended = {
            "workers": [[worker, failure.exitcode] for worker, failure in failures.items()],
            "peak": peak_memory(resource.RUSAGE_CHILDREN),
        }
        atomic.write_text(Attempt(Job.load(file)).folder / "ended.json", json.dumps(ended))
        sys.exit(1)


if __name__ == "__main__":
    main()
