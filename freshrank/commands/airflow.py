"""`freshrank airflow`: start the daily retrain for a chosen day over REST, and watch it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from features.encoded import JsonObject

if TYPE_CHECKING:
    from freshrank.airflow import AirflowClient

app = typer.Typer(help="Start and watch runs of the daily DAG.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Hold the group."""


@app.command()
def trigger(
    date: Annotated[str, typer.Option(help="The run's day D; its data interval is [D 02:00, D+1 02:00) UTC.")],
    again: Annotated[bool, typer.Option(help="Clear the day's run if there is one: all its steps run again.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended; a failed run ends this command with 3.")] = False,
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest wait, seconds.")] = 7200,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Start the retrain for a day; a run that is there already is left alone unless --again."""
    from features import times
    from freshrank import settings as all_settings
    from freshrank.airflow import AirflowClient
    from freshrank.stack import addresses

    began, day = time.monotonic(), times.parse_date(date)
    with AirflowClient(addresses.airflow_url(all_settings.load())) as airflow:
        run_id = airflow.trigger(day, again=again)
        started = {"run_id": run_id, "state": airflow.run_state(run_id)}
        answer = _watch(airflow, run_id, timeout_s) if wait else started
    _show(answer, as_json, time.monotonic() - began)


@app.command()
def wait(
    date: Annotated[str, typer.Option(help="The run's day D.")],
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest wait, seconds.")] = 7200,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Wait until the day's run has ended, saying what its steps do."""
    from features import times
    from features.errors import NotReadyError
    from freshrank import settings as all_settings
    from freshrank.airflow import AirflowClient
    from freshrank.stack import addresses

    began, day = time.monotonic(), times.parse_date(date)
    with AirflowClient(addresses.airflow_url(all_settings.load())) as airflow:
        run_id = airflow.run_of(day)
        if run_id is None:
            raise NotReadyError(
                "the day has no run", field="date", value=date, remedy=f"run `freshrank airflow trigger --date {date}`"
            )
        answer = _watch(airflow, run_id, timeout_s)
    _show(answer, as_json, time.monotonic() - began)


def _watch(airflow: AirflowClient, run_id: str, timeout_s: float) -> JsonObject:
    from freshrank.airflow import STEPS

    tasks = airflow.wait(
        run_id, expected=STEPS, timeout_s=timeout_s, progress=lambda line: print(line, file=sys.stderr, flush=True)
    )
    seconds = {one["task_id"]: round(one["duration"] or 0.0, 2) for one in tasks if one["state"] == "success"}
    decision = next((one for one in ("deploy", "keep") if one in seconds), None)
    return {"run_id": run_id, "state": "success", "decision": decision, "steps": seconds}


def _show(answer: JsonObject, as_json: bool, took: float) -> None:
    if as_json:
        print(json.dumps(answer))
        return
    decision = f", decision: {answer['decision']}" if answer.get("decision") else ""
    print(f"airflow: {answer['run_id']} {answer['state']}{decision} ({took:.1f} s)")
