"""The daily retrain: one task a step, each a call of the command line.

A run for day D has the data interval [D 02:00, D+1 02:00) UTC; its end is the cut. It trains on the seven days before D
and is judged on D. Every task may run twice and may be killed; clearing a task runs it and what follows again.

The file knows the `freshrank` command and one setting, `airflow.schedule`, read where the command reads it: from
`FRESHRANK_AIRFLOW__SCHEDULE`, else from `freshrank.toml`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, RetryDecision, RetryPolicy, task

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / ".venv" / "bin" / "freshrank"
FRESHRANK = str(OWN) if OWN.exists() else "freshrank"
DAY = "{{ data_interval_start | ds }}"
CUT = "{{ data_interval_end.strftime('%Y-%m-%dT%H:%M:%SZ') }}"
WORTH_A_RETRY = (4, 5, 6, 7)  # not ready yet, server unreachable, locked, a worker died
KILLED = (137, -9, 143, -15)  # by SIGKILL, as for want of memory, or SIGTERM: as a shell says it, and as Python does


def schedule() -> str:
    """Cron of the daily run, UTC; empty where runs are only triggered."""
    name = "FRESHRANK_AIRFLOW__SCHEDULE"
    if name in os.environ:
        return os.environ[name].strip()
    file = Path(os.environ.get("FRESHRANK_SETTINGS") or ROOT / "freshrank.toml")
    values = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return str(values.get("airflow", {}).get("schedule", "0 2 * * *")).strip()


class ByExitCode(RetryPolicy):
    """Try again what may go better next time; a bug, a wrong setting or bad data fail at once."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # noqa: ARG002
        max_tries: int,  # noqa: ARG002
        context: object = None,  # noqa: ARG002
    ) -> RetryDecision:
        """Decide by the command's exit code; what has none, such as a lost worker, is tried again."""
        found = re.search(r"exit (?:code|status) (-?\d+)", str(exception))
        if found and int(found.group(1)) not in (*WORTH_A_RETRY, *KILLED):
            return RetryDecision.fail(f"exit code {found.group(1)} does not get better by itself")
        return RetryDecision.default()

    def serialize(self) -> dict[str, object]:
        """Nothing to keep: it has no parameters."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, object]) -> ByExitCode:  # noqa: ARG003
        """The policy."""
        return cls()


def step(name: str, arguments: str, **options: object) -> BashOperator:
    """A task that calls the command line.

    Its result is the command's one line of JSON: what goes to stderr is in the log, and not the last line printed.
    """
    # Serving goes before training where both want the same cores.
    command = f"set -e; result=$(nice -n 5 {FRESHRANK} {arguments} --json); printf '%s\\n' \"$result\""
    # no exit code means "skipped": a run that is skipped is green
    return BashOperator(task_id=name, bash_command=command, skip_on_exit_code=None, **options)


@task.branch(task_id="gate")
def gate(day: str) -> str:
    """Ask the gate; the decision and its reasons are in the log, and the branch taken shows in the graph."""
    ended = subprocess.run(
        [FRESHRANK, "gate", "--date", day, "--json"], stdout=subprocess.PIPE, encoding="utf-8", timeout=1800
    )
    if ended.returncode:
        raise RuntimeError(f"freshrank gate ended with exit code {ended.returncode}")
    decision = json.loads(ended.stdout.strip().splitlines()[-1])
    print(json.dumps(decision, indent=2))
    return "deploy" if decision["blessed"] else "keep"


cron = schedule()
with DAG(
    dag_id="retrain",
    description="Seven days of events to a model that serves, or a reason why not",
    schedule=CronDataIntervalTimetable(cron, timezone="UTC") if cron else None,
    start_date=dt.datetime(2000, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,
    # A DAG with a schedule starts yesterday's run the moment it is unpaused: that is for its owner to decide.
    is_paused_upon_creation=bool(cron),
    default_args={
        "retries": 3,
        "retry_delay": dt.timedelta(minutes=1),
        "retry_policy": ByExitCode(),
        "execution_timeout": dt.timedelta(hours=2),
    },
    doc_md=__doc__,
    tags=["freshrank"],
) as dag:
    steps = [
        step("ingest", f"ingest --until {CUT}"),
        step("labels", f"labels --date {DAY}"),
        step("features", f"features materialize --date {DAY}"),
        step("content", f"content encode --date {DAY}"),
        step("window", f"window build --date {DAY}"),
        step("train", f"train --date {DAY}", pool="training", execution_timeout=dt.timedelta(hours=12)),
        step("bundle", f"bundle --date {DAY}"),
        step("evaluate", f"evaluate --date {DAY}"),
    ]
    for before, after in itertools.pairwise(steps):
        before >> after
    # Where the gate refuses, the incumbent stays; the day's popularity, which needs no blessing, goes live either way.
    branches = [step("deploy", f"deploy --date {DAY}"), step("keep", f"deploy --date {DAY} --alias popularity")]
    steps[-1] >> gate(DAY) >> branches
