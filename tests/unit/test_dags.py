"""The DAGs parse in Airflow's own environment and are wired as the contract says."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".envs" / "airflow" / "bin" / "python"

PROGRAM = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dag = bag.dags["retrain"]
retrain = next(module for name, module in sys.modules.items() if name.endswith("retrain") and hasattr(module, "CUT"))
policy = dag.get_task("train").retry_policy
killed = []
for command in ("kill -KILL $$", "set -e; x=$(bash -c 'kill -KILL $$')", "exit 99"):
    operator = retrain.step("one", "--help", do_xcom_push=False)
    operator.bash_command = command
    try:
        operator.execute({})
        killed.append("success")
    except Exception as error:
        killed.append(policy.evaluate(error, 1, 3).action.value)
print(json.dumps({
    "errors": bag.import_errors,
    "dags": sorted(bag.dags),
    "timetable": type(dag.timetable).__name__,
    "cron": getattr(dag.timetable, "expression", None),
    "paused": dag.is_paused_upon_creation,
    "catchup": dag.catchup,
    "max_active_runs": dag.max_active_runs,
    "edges": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
    "pools": {task.task_id: task.pool for task in dag.tasks},
    "commands": {task.task_id: getattr(task, "bash_command", "") for task in dag.tasks},
    "check": bag.dags["check"].get_task("status").bash_command,
    "retried": [code for code in range(-64, 256) if code and policy.evaluate(
        Exception(f"The command returned a non-zero exit code {code}."), 1, 3).action.value != "fail"],
    "gate_retried": [code for code in (-9, 1, 2, 3, 4, 137) if policy.evaluate(
        RuntimeError(f"freshrank gate ended with exit code {code}"), 1, 3).action.value != "fail"],
    "skipping": [task.task_id for task in dag.tasks if getattr(task, "skip_on_exit_code", None)],
    "killed": killed,
}))
"""


def parse(home: Path, schedule: str) -> dict[str, Any]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "FRESHRANK"))}
    own |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "FRESHRANK_AIRFLOW__SCHEDULE": schedule}
    ended = subprocess.run(
        [PYTHON, "-c", PROGRAM, ROOT / "dags"],
        env=own,
        capture_output=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    answer: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return parse(tmp_path_factory.mktemp("airflow"), "0 2 * * *")


def test_both_dags_parse(scheduled: dict[str, Any]) -> None:
    assert scheduled["errors"] == {}
    assert scheduled["dags"] == ["check", "retrain"]


def test_the_steps_follow_one_another_and_the_gate_branches(scheduled: dict[str, Any]) -> None:
    order = ["ingest", "labels", "features", "content", "window", "train", "bundle", "evaluate", "gate"]
    edges = {one: [after] for one, after in itertools.pairwise(order)}
    assert scheduled["edges"] == edges | {"gate": ["deploy", "keep"], "deploy": [], "keep": []}


def test_every_task_is_a_module_of_the_pipeline(scheduled: dict[str, Any]) -> None:
    for task in scheduled["edges"]:
        run = inspect.signature(importlib.import_module(f"freshrank.pipeline.{task}").run)
        needed = [name for name, one in run.parameters.items() if one.default is one.empty]
        assert needed == ["settings", "day"], task


def test_training_has_a_pool_of_its_own(scheduled: dict[str, Any]) -> None:
    assert [task for task, pool in scheduled["pools"].items() if pool == "training"] == ["train"]


def test_every_task_calls_the_command_line_for_the_day_of_its_interval(scheduled: dict[str, Any]) -> None:
    commands = {task: command for task, command in scheduled["commands"].items() if command}
    assert set(commands) == set(scheduled["edges"]) - {"gate"}
    assert "--until {{ data_interval_end" in commands.pop("ingest")
    assert all("--date {{ data_interval_start | ds }}" in command for command in commands.values())


def test_a_schedule_gives_a_data_interval_and_waits_for_its_owner(scheduled: dict[str, Any]) -> None:
    assert (scheduled["timetable"], scheduled["cron"]) == ("CronDataIntervalTimetable", "0 2 * * *")
    assert scheduled["paused"] is True
    assert (scheduled["catchup"], scheduled["max_active_runs"]) == (False, 1)


def test_without_a_schedule_runs_are_only_triggered(tmp_path: Path) -> None:
    triggered = parse(tmp_path, "")
    assert triggered["timetable"] == "NullTimetable"
    assert triggered["paused"] is False


def test_only_exit_codes_that_can_get_better_are_tried_again(scheduled: dict[str, Any]) -> None:
    """Not ready, unreachable, locked, a worker that died; and a command killed by SIGKILL or SIGTERM, which Bash tells
    as 137 and 143, Python as -9 and -15. A bug, a wrong setting and bad data are not, nor what else a signal ended."""
    assert scheduled["retried"] == [-15, -9, 4, 5, 6, 7, 137, 143]
    assert scheduled["gate_retried"] == [-9, 4, 137]


def test_a_killed_command_is_tried_again_and_none_is_skipped(scheduled: dict[str, Any]) -> None:
    """As Airflow's own operator tells it; an exit code that would skip a step would leave the run green."""
    assert scheduled["killed"] == ["default", "default", "fail"]
    assert scheduled["skipping"] == []


def test_the_check_prints_its_line_and_fails_with_it(scheduled: dict[str, Any], tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FRESHRANK")}
    own["FRESHRANK_STACK__DIR"] = str(tmp_path / "none")  # nothing runs there
    command = scheduled["check"].replace(
        str(ROOT / ".venv" / "bin" / "freshrank"), f"{sys.executable} -m freshrank.cli"
    )
    ended = subprocess.run(["bash", "-c", command], env=own, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert ended.returncode == 4
    assert json.loads(ended.stdout)["ok"] is False
