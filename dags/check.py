"""A check that tasks reach the command line and the servers: trigger it when in doubt, and read its log.

It fails where a server that should work does not, and changes nothing, so it may run for any day and as often as one
likes.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

OWN = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "freshrank"
FRESHRANK = str(OWN) if OWN.exists() else "freshrank"

with DAG(
    dag_id="check",
    description="Each server's state, seen from a task",
    schedule=None,
    start_date=dt.datetime(2000, 1, 1, tzinfo=dt.UTC),
    is_paused_upon_creation=False,
    doc_md=__doc__,
    tags=["freshrank"],
) as dag:
    BashOperator(
        task_id="status",
        # Its line is printed, and the task fails, where a server that should work does not.
        bash_command=f"result=$({FRESHRANK} status --json); code=$?; printf '%s\\n' \"$result\"; exit $code",
        execution_timeout=dt.timedelta(minutes=5),
    )
