"""Airflow runs a DAG for a chosen past interval over REST, and again when it is cleared."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from freshrank.airflow import AirflowClient, RunFailed
from freshrank.stack import addresses
from freshrank.stack.servers.airflow import POOL
from tests.stack import Stack

pytestmark = pytest.mark.integration

DAY = dt.date(2024, 2, 29)


def test_a_past_interval_runs_its_log_reads_back_and_it_runs_again_when_cleared(stack: Stack) -> None:
    settings = stack.need("airflow")
    with AirflowClient(addresses.airflow_url(settings)) as airflow:
        run_id = airflow.trigger(DAY, dag="check")
        assert run_id == "check__2024-02-29"
        (task,) = airflow.wait(run_id, dag="check", expected=("status",), timeout_s=180)
        _, run = airflow.call("GET", f"/dags/check/dagRuns/{run_id}")
        assert run["data_interval_start"] == run["logical_date"] == "2024-02-29T02:00:00Z"
        assert run["data_interval_end"] == "2024-03-01T02:00:00Z"

        result = airflow.xcom(run_id, "status", dag="check")
        assert {one["name"]: one["state"] for one in json.loads(result)["servers"]}["airflow"] == "ready"
        assert '"servers"' in airflow.log(run_id, "status", task["try_number"], dag="check")

        assert airflow.trigger(DAY, dag="check") == run_id  # there already: left alone
        assert airflow.tasks(run_id, dag="check")[0]["try_number"] == task["try_number"]
        airflow.trigger(DAY, dag="check", again=True)
        (again,) = airflow.wait(run_id, dag="check", expected=("status",), timeout_s=180)
        assert again["try_number"] == task["try_number"] + 1


def test_the_daily_dag_waits_for_triggers_and_trains_in_a_pool_of_one(stack: Stack) -> None:
    settings = stack.need("airflow")
    with AirflowClient(addresses.airflow_url(settings)) as airflow:
        _, dag = airflow.call("GET", "/dags/retrain")
        assert (dag["is_paused"], dag["timetable_summary"]) == (False, None)
        _, pool = airflow.call("GET", f"/pools/{POOL}")
        assert pool["slots"] == 1
        _, tasks = airflow.call("GET", "/dags/retrain/tasks")
        assert {one["task_id"] for one in tasks["tasks"] if one["pool"] == POOL} == {"train"}


def test_a_step_that_cannot_get_better_fails_at_once_and_says_why(stack: Stack) -> None:
    settings = stack.need("airflow")
    text = stack.file.read_text(encoding="utf-8")
    stack.file.write_text(text + "\n[window]\ndays = 0\n", encoding="utf-8")
    try:
        with AirflowClient(addresses.airflow_url(settings)) as airflow:
            run_id = airflow.trigger(dt.date(2001, 1, 1))
            with pytest.raises(RunFailed, match="failed at ingest"):
                airflow.wait(run_id, timeout_s=180)
            (task,) = (one for one in airflow.tasks(run_id) if one["task_id"] == "ingest")
            assert (task["state"], task["try_number"]) == ("failed", 1)  # three more tries were allowed
            assert "window.days = 0" in airflow.log(run_id, "ingest", 1)
    finally:
        stack.file.write_text(text, encoding="utf-8")
