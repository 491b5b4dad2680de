"""Waiting for a run of Airflow says what it does, also where nobody sits before a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freshrank import airflow
from freshrank.airflow import AirflowClient, RunFailed
from freshrank.demo.steps import StepError, Steps


def task(name: str, state: str | None, seconds: float | None = None, number: int = 1) -> dict[str, Any]:
    start = None if state in (None, "queued", "scheduled") else f"2025-03-08T02:0{len(name)}:00Z"
    return {"task_id": name, "state": state, "try_number": number, "duration": seconds, "start_date": start}


class Scripted(AirflowClient):
    """Answers with one look at the run after another. A run takes minutes, so that this one is told."""

    def __init__(self, *looks: tuple[str, list[dict[str, Any]]]) -> None:
        super().__init__("http://127.0.0.1:1")
        self.looks = iter(looks)

    def run_state(self, run_id: str, *, dag: str = airflow.DAG) -> str:  # noqa: ARG002
        self.state, self.now = next(self.looks)
        return self.state

    def tasks(self, run_id: str, *, dag: str = airflow.DAG) -> list[dict[str, Any]]:  # noqa: ARG002
        return self.now


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two looks."""
    monkeypatch.setattr("freshrank.airflow.time.sleep", lambda _: None)


@pytest.mark.usefixtures("at_once")
def test_each_task_is_named_as_it_starts_and_as_it_ends_with_its_seconds() -> None:
    client = Scripted(
        ("queued", [task("ingest", None), task("labels", None)]),
        ("running", [task("ingest", "queued"), task("labels", None)]),
        ("running", [task("ingest", "running"), task("labels", None)]),
        ("running", [task("ingest", "running"), task("labels", None)]),
        ("running", [task("ingest", "up_for_retry"), task("labels", None)]),
        ("running", [task("ingest", "running", number=2), task("labels", None)]),
        ("running", [task("ingest", "success", 61.25, 2), task("labels", "scheduled")]),
        ("success", [task("ingest", "success", 61.25, 2), task("labels", "success", 2.0), task("keep", "skipped")]),
    )
    said: list[str] = []
    client.wait("run", expected=("ingest", "labels"), progress=said.append)
    assert sorted(said[4:]) == ["run: keep skipped", "run: labels done in 2.0 s"]
    assert said[:4] == [
        "run: ingest started",
        "run: ingest failed, will be tried again",
        "run: ingest started, try 2",
        "run: ingest done in 61.2 s",
    ]


@pytest.mark.usefixtures("at_once")
def test_a_failed_run_names_the_task_that_failed_and_not_all_that_waited_for_it() -> None:
    client = Scripted(("failed", [task("labels", "upstream_failed"), task("ingest", "failed", 1.0)]))
    with pytest.raises(RunFailed, match="failed at ingest: run = 'run'"):
        client.wait("run")


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Steps whose command is a small program: `freshrank/cli.py` of a folder that comes first."""
    (tmp_path / "freshrank").mkdir()
    (tmp_path / "freshrank" / "__init__.py").touch()
    (tmp_path / "freshrank" / "cli.py").write_text(
        "import os, sys, time\n"
        "for n in range(3):\n"
        "    print(f'task {n} ä', file=sys.stderr, flush=True)\n"
        "    sys.stdin.readline()\n"
        "print('{\"done\": 3}' if sys.argv[1] == 'good' else '')\n"
        "sys.exit(0 if sys.argv[1] == 'good' else 4)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield Steps(tmp_path / "run", {})


def test_a_long_step_of_the_demo_tells_its_progress_as_it_comes(steps: Steps) -> None:
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from freshrank.demo.steps import Steps;"
        "print(Steps(Path('run'), {}).command('run_1', 'a run', 'good', tell=True))"
    )
    root = str(Path(__file__).resolve().parents[2])
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", program, root], env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert child.stdin and child.stdout and child.stderr
    try:
        assert child.stderr.readline() == "… a run\n"
        for number in range(3):  # each is there before the command may go on
            assert child.stderr.readline() == f"  task {number} ä\n"
            child.stdin.write("\n")
            child.stdin.flush()
        out, error = child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait()
    assert out == "{'done': 3}\n"
    assert error.startswith("✓ run_1 ")
    assert "\r" not in error
    assert (Path("run") / "steps" / "run_1.log").read_text(encoding="utf-8") == "".join(
        f"task {n} ä\n" for n in range(3)
    )


@pytest.mark.parametrize("tell", [True, False])
def test_a_step_that_fails_passes_on_its_code_and_its_last_line(steps: Steps, tell: bool) -> None:
    with pytest.raises(StepError, match=r"exit code = 4; task 2 ä \(log: .*run_2.log\)") as caught:
        steps.command("run_2", "a run", "bad", tell=tell)
    assert caught.value.exit_code == 4
