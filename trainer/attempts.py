"""What the workers of a training leave for the command that started them, and how often they were killed where.

An attempt is one start of the workers. Its folder lives as long as they do; one that is found at the next start tells
of an attempt that was killed together with its command. Two deaths after the same checkpoint end the training: a third
try would only do it again.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from features import atomic
from features.errors import (
    DataError,
    FreshrankError,
    LockedError,
    NotReadyError,
    UnreachableError,
    UsageError,
    WorkerDiedError,
)
from trainer.job import Job

KINDS = {
    kind.exit_code: kind
    for kind in (UsageError, DataError, NotReadyError, UnreachableError, LockedError, WorkerDiedError)
}
GIB = 2**30


class TrainingError(FreshrankError):
    """A worker of the training ended by a bug; its own words stand above."""

    exit_code, code = 1, "training_failed"


class Attempt:
    """One start of a training's workers.

    Args:
        job: The training.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.folder = job.folder / "attempt"
        self.started = self.folder / "started"
        self.death = job.folder / "death.json"

    @property
    def temporary(self) -> Path:
        """The workers' folder for temporary files."""
        return self.folder / "tmp"

    def begin(self) -> None:
        """Make the folder; what a killed attempt left goes.

        Raises:
            UsageError: If an attempt was killed with its command, as the one before it was, after the same checkpoint.
        """
        error = self._died("the command and its workers were killed") if self.started.exists() else None
        self.end()
        if isinstance(error, UsageError):
            raise error
        self.temporary.mkdir(parents=True)
        self.started.touch()

    def end(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def judge(self, code: int, workers: Mapping[int, int], peak: int = 0) -> FreshrankError | None:
        """The error that an attempt ended with, or None.

        Args:
            code: The launcher's exit code; negative where a signal ended it.
            workers: Worker → its exit code, in the order in which they were seen to fail; empty where the launcher
                could not say.
            peak: Most memory that a worker held, bytes; 0 where unknown.

        Returns:
            What a worker itself said; else that one was killed; else a bug.
        """
        if not code:
            self.death.unlink(missing_ok=True)
            return None
        said = self._said()
        told = next((error for error in said if not isinstance(error, TrainingError)), None)
        if told:
            return told
        # once one has failed the launcher ends the others by SIGTERM, or they fail for want of it
        first = next(iter(workers.values()), code)
        killed = next((one for one in workers.values() if one < 0 and one != -signal.SIGTERM), min(first, 0))
        if killed:
            return self._died(f"a worker was killed by {signal.Signals(-killed).name}", peak)
        return said[0] if said else _bug(code)

    def _died(self, what: str, peak: int = 0) -> WorkerDiedError | UsageError:
        """Note a death; the error of it, another one where it is the second after the same checkpoint."""
        from trainer.checkpoints import Checkpoints

        latest = Checkpoints(self.job.folder).latest()
        step = latest.step if latest else 0
        before = json.loads(self.death.read_text(encoding="utf-8")) if self.death.exists() else None
        peak = max([peak, *(int(path.read_text(encoding="utf-8")) for path in self.folder.glob("memory-*"))])
        where = f"after the checkpoint of batch {step}" if step else "before the first checkpoint"
        if before and before["step"] == step:
            self.death.unlink()  # who runs it again, perhaps with more memory, has two tries
            return UsageError(
                f"{what}, the second time {where}: most likely it needs more memory than there is",
                field="peak memory of a worker",
                value=_gib(max(peak, before["peak"])),
                remedy="lower train.requests_per_batch, train.max_candidates or train.workers, or give it more memory",
            )
        atomic.write_text(self.death, json.dumps({"step": step, "peak": peak}))
        return WorkerDiedError(
            f"{what} {where}",
            field="peak memory of a worker",
            value=_gib(peak),
            remedy="run again: it goes on from there; a second death at the same place ends the training",
        )

    def _said(self) -> list[FreshrankError]:
        """The errors that workers ended with, the first one first."""
        notes = [json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("error-*.json")]
        return [_error(note) for note in sorted(notes, key=lambda note: int(note["at"]))]


def note_error(job: Job, worker: int, error: BaseException) -> int:
    """Leave a worker's error for the command that started it; a worker that torchrun started says it itself.

    Args:
        job: The training.
        worker: Its rank.
        error: What ended it.

    Returns:
        The exit code that belongs to it.
    """
    code = error.exit_code if isinstance(error, FreshrankError) else 1
    note: dict[str, object] = {"at": time.monotonic_ns(), "exit_code": code, "what": str(error)}
    if isinstance(error, FreshrankError):
        value = error.value if isinstance(error.value, str | int | float | list | None) else str(error.value)
        note |= {"what": error.what, "field": error.field, "value": value, "remedy": error.remedy}
    attempt = Attempt(job)
    if attempt.started.exists():
        with contextlib.suppress(OSError):  # a full disk must not hide the error itself
            atomic.write_text(attempt.folder / f"error-{worker}.json", json.dumps(note))
    elif isinstance(error, FreshrankError):
        print(f"train: worker {worker}: {error}", file=sys.stderr)
    return code


def _error(note: Mapping[str, object]) -> FreshrankError:
    kind = KINDS.get(int(str(note["exit_code"])))
    if kind is None:
        return _bug(1)
    remedy = str(note["remedy"]) if note["remedy"] else None
    return kind(
        str(note["what"]), field=str(note["field"]) if note["field"] else None, value=note["value"], remedy=remedy
    )


def note_memory(job: Job, worker: int) -> None:
    """Leave a worker's peak memory, for the case that the command is killed with it."""
    attempt = Attempt(job)
    if attempt.started.exists():
        folder = attempt.folder
        path, part = folder / f"memory-{worker}", folder / f".memory-{worker}"
        part.write_text(str(peak_memory()), encoding="utf-8")
        part.replace(path)


def peak_memory(who: int = resource.RUSAGE_SELF) -> int:
    """Most memory that this process, or the largest of the children it waited for, has held, bytes."""
    return resource.getrusage(who).ru_maxrss * 1024


def _bug(code: int) -> TrainingError:
    remedy = "read the workers' words above"
    return TrainingError("the training failed", field="exit code", value=code, remedy=remedy)


def _gib(peak: int) -> str:
    return f"{peak / GIB:.2f} GiB" if peak else "unknown"
