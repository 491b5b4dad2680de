"""Steps of a demo: each is a command, shown while it runs, timed, and remembered."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from features.encoded import JsonObject
from features.errors import FreshrankError
from freshrank.stack import processes


class StepError(FreshrankError):
    """A step of the demo failed; its exit code is passed on."""

    code = "step_failed"

    def __init__(self, name: str, exit_code: int, line: str, log: Path) -> None:
        super().__init__(f"step {name} failed", field="exit code", value=exit_code, remedy=f"{line} (log: {log})")
        self.exit_code = exit_code


@dataclass
class Steps:
    """Runs the demo's steps.

    Args:
        folder: The run's folder; logs go to `steps/` in it.
        environ: Variables for the commands, beside this process's own.
        seconds: Step name → seconds it took, in order.
    """

    folder: Path
    environ: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def timed(self, name: str, what: str) -> Iterator[list[str]]:
        """Time a block as a step.

        Args:
            name: Name of the step.
            what: What it does, for the reader.

        Yields:
            A list: the block puts in one line that says what it did.
        """
        said: list[str] = []
        print(f"… {what}", file=sys.stderr, flush=True)
        began = time.monotonic()
        yield said
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 2)
        print(f"✓ {name} {self.seconds[name]:.1f} s: {said[-1] if said else 'done'}", file=sys.stderr, flush=True)

    def command(self, name: str, what: str, *arguments: str, tell: bool = False) -> JsonObject:
        """Run `freshrank <arguments> --json` as a step.

        Args:
            name: Name of the step.
            what: What it does, for the reader.
            arguments: Words of the command line.
            tell: Whether its own lines of progress are shown as they come, too; they are in the step's log anyway.

        Returns:
            The line of JSON that the command printed.

        Raises:
            StepError: If it exits with anything but 0.
        """
        log = self.folder / "steps" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with self.timed(name, what) as said, log.open("ab", buffering=0) as file:
            code, out = self._run(arguments, file, tell)
            if code != 0:
                lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise StepError(name, code, lines[-1] if lines else "no word", log)
            result: dict[str, object] = json.loads(out.decode().strip().splitlines()[-1])
            said.append(
                ", ".join(f"{key} {value}" for key, value in result.items() if isinstance(value, int | float | str))
            )
        return result

    def _run(self, arguments: Sequence[str], log: IO[bytes], tell: bool) -> tuple[int, bytes]:
        """Run the command, its stderr to the log; returns its exit code and what it printed."""
        run = subprocess.Popen(
            [sys.executable, "-m", "freshrank.cli", *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if tell else log,
            env={**os.environ, **self.environ},
        )
        try:
            for line in run.stderr or ():
                log.write(line)
                print(f"  {line.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)
            out, _ = run.communicate()  # one line, which waited in the pipe
        except BaseException:
            run.kill()
            run.wait()
            raise
        return run.returncode, out


class MemoryWatch:
    """Peak memory of the stack and the demo's own processes, as proportional set size.

    Args:
        stack_id: Value of `FRESHRANK_STACK_ID` of the processes that count.
        every_s: Seconds between two looks.
    """

    def __init__(self, stack_id: str, every_s: float = 3.0) -> None:
        self._stack_id, self._every_s = stack_id, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.peak_mb = max(self.peak_mb, sum(map(processes.pss_bytes, self._pids())) / 2**20)

    def _pids(self) -> set[int]:
        import psutil

        mine = {os.getpid()} | {child.pid for child in psutil.Process().children(recursive=True)}
        return mine | {one.pid for one in processes.find(self._stack_id)}
