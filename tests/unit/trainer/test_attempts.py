"""How a start of a training's workers is judged: a worker's own error, a death, two after one checkpoint, a bug."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from features import atomic
from features.errors import DataError, NotReadyError, UsageError, WorkerDiedError
from tests.stack import until
from trainer.attempts import Attempt, TrainingError, note_error, note_memory, peak_memory
from trainer.checkpoints import TrainingState
from trainer.job import Job
from trainer.launch import launch
from trainer.recipes import checked_recipe
from trainer.schedule import EarlyStopping
from trainer.settings import TrainSettings

KILLED, ENDED = -signal.SIGKILL, -signal.SIGTERM


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A training of which nothing is read but its folder."""
    return Job("w", None, str(tmp_path / "checkpoints"), "lr", checked_recipe("lr", {}), TrainSettings())


def checkpoint(job: Job, step: int) -> None:
    state = TrainingState(step, (0, 0, 0), EarlyStopping(1, "min"))
    atomic.write_text(job.folder / f"step-{step:08d}" / "state.json", state.to_json())


def attempt(job: Job, code: int = 1, workers: dict[int, int] | None = None, peak: int = 3 * 2**30) -> Exception | None:
    one = Attempt(job)
    one.begin()
    try:
        return one.judge(code, workers or {}, peak)
    finally:
        one.end()


def test_two_deaths_after_the_same_checkpoint_end_the_training(job: Job) -> None:
    checkpoint(job, 40)
    first = attempt(job, workers={0: KILLED})
    assert isinstance(first, WorkerDiedError) and first.exit_code == 7
    assert "killed by SIGKILL after the checkpoint of batch 40" in str(first) and "3.00 GiB" in str(first)
    second = attempt(job, workers={0: KILLED}, peak=2**30)
    assert isinstance(second, UsageError) and second.exit_code == 2
    assert "the second time after the checkpoint of batch 40" in str(second)
    assert "peak memory of a worker = '3.00 GiB'" in str(second) and "train.requests_per_batch" in str(second)
    assert isinstance(attempt(job, workers={0: KILLED}), WorkerDiedError), "who runs it again has two tries"


def test_a_death_further_on_is_worth_another_try(job: Job) -> None:
    assert "before the first checkpoint" in str(attempt(job, workers={0: KILLED}))
    for step in (10, 20):
        checkpoint(job, step)
        assert isinstance(attempt(job, workers={0: KILLED}), WorkerDiedError)


def test_a_training_that_ends_forgets_its_death(job: Job) -> None:
    assert isinstance(attempt(job, workers={0: KILLED}), WorkerDiedError)
    assert attempt(job, code=0) is None
    assert isinstance(attempt(job, workers={0: KILLED}), WorkerDiedError)


def test_a_command_killed_with_its_workers_counts_as_a_death(job: Job) -> None:
    """As where the kernel ends a whole container for want of memory: what lies there tells."""
    one = Attempt(job)
    one.begin()
    note_memory(job, 0)
    (one.temporary / "torchelastic_x").mkdir()
    one.begin()
    assert not list(one.temporary.iterdir()), "what was left is swept"
    with pytest.raises(UsageError, match="the command and its workers were killed, the second time") as told:
        one.begin()
    assert str(told.value.value).endswith("GiB") and peak_memory() > 2**20
    assert not one.folder.exists()
    one.begin()


@pytest.mark.parametrize(
    ("workers", "name"),
    [
        ({1: KILLED, 0: 1}, "SIGKILL"),
        ({1: KILLED, 0: ENDED}, "SIGKILL"),
        ({0: 1, 1: KILLED}, "SIGKILL"),
        ({0: ENDED, 1: 1}, "SIGTERM"),
        ({0: ENDED, 1: ENDED}, "SIGTERM"),
        ({0: -signal.SIGBUS}, "SIGBUS"),
    ],
)
def test_a_worker_killed_by_a_signal_died(workers: dict[int, int], name: str, job: Job) -> None:
    """Its fellows fail for want of it, or are ended by the launcher: that does not make it a bug."""
    found = attempt(job, workers=workers)
    assert isinstance(found, WorkerDiedError) and f"killed by {name}" in str(found)


def test_a_killed_launcher_died(job: Job) -> None:
    assert isinstance(attempt(job, code=KILLED, peak=0), WorkerDiedError)


@pytest.mark.parametrize("workers", [{0: 1}, {0: 1, 1: ENDED}, {}])
def test_a_bug_is_no_death(workers: dict[int, int], job: Job) -> None:
    found = attempt(job, workers=workers)
    assert isinstance(found, TrainingError) and found.exit_code == 1
    assert not Attempt(job).death.exists()


@pytest.mark.parametrize("error", [DataError("the loss is not finite", field="requests of batch 3", value=["r1", "r2"],
    remedy="mend them"), NotReadyError("no window", field="window", value="w"), UsageError("wrong")])  # fmt: skip
def test_a_workers_own_error_comes_out(error: Any, job: Job) -> None:
    """With its exit code and its one line, whatever became of its fellows."""
    one = Attempt(job)
    one.begin()
    code = note_error(job, 1, error)
    note_error(job, 0, RuntimeError("Connection closed by peer"))
    found = one.judge(1, {1: code, 0: KILLED})
    assert found is not None and type(found) is type(error) and str(found) == str(error)
    assert found.exit_code == error.exit_code == code


def test_a_stop_on_request_is_no_death(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, as Airflow sends it to a task that is cleared: the launcher is stopped, nothing is left or counted."""
    popen, before, children = subprocess.Popen, signal.getsignal(signal.SIGTERM), []

    def sleeper(*_: Any, **__: Any) -> subprocess.Popen[bytes]:
        children.append(popen(["sleep", "600"]))
        return children[0]

    def ask() -> None:
        until(lambda: signal.getsignal(signal.SIGTERM) is not before, "a handler")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("trainer.launch.subprocess.Popen", sleeper)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        with pytest.raises(SystemExit) as ended:
            launch(job, 1, tmp_path)
        asked.result()
    assert ended.value.code == 128 + signal.SIGTERM and children[0].returncode == ENDED
    assert signal.getsignal(signal.SIGTERM) is before
    assert not Attempt(job).folder.exists() and not Attempt(job).death.exists()


def test_a_worker_under_torchrun_says_its_error_itself(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert note_error(job, 2, DataError("wrong", field="a", value=1)) == 3
    assert "worker 2: wrong: a = 1" in capsys.readouterr().err
    note_memory(job, 2)
    assert not Attempt(job).folder.exists()
