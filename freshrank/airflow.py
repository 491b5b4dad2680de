"""A client of Airflow's REST interface: just what running and watching the daily retrain takes."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import quote

from features import times
from features.encoded import JsonObject
from features.errors import FreshrankError, NotReadyError, UnreachableError
from features.proxies import trust_env

DAG = "retrain"
ENDED = ("success", "failed")
_PATIENCE_S = 180.0  # how long a wait goes on without an answer: the supervisor starts again what died
STEPS = (
    "ingest",
    "labels",
    "features",
    "content",
    "window",
    "train",
    "bundle",
    "evaluate",
    "gate",
)  # of every good run


class RunFailed(FreshrankError):
    """A DAG run ended without success."""

    exit_code, code = 3, "run_failed"


class AirflowClient:
    """Airflow over REST.

    Args:
        url: The api-server's URL without a slash at the end.

    Example::

        with AirflowClient("http://127.0.0.1:17006") as airflow:
            airflow.trigger(dt.date(2025, 3, 8))
    """

    def __init__(self, url: str) -> None:
        import httpx

        self.url = url
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=trust_env(url))
        self._token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = ()) -> tuple[int, Any]:
        """One call of `/api/v2`.

        Args:
            method: HTTP method.
            path: Path below `/api/v2`.
            body: What to send as JSON.
            accept: Statuses beside 2xx that are an answer and no error.

        Returns:
            Status and decoded body.

        Raises:
            UnreachableError: If nothing answers, or with a status that was not expected.
        """
        import httpx

        # What may be said twice is said again when no answer comes: a training beside it makes the server slow.
        attempts = 3 if method == "GET" or path.endswith("/dagRuns") else 1
        for attempt in range(1, attempts + 1):
            try:
                if not self._token:
                    answer = self._client.get("/auth/token")
                    answer.raise_for_status()
                    self._token = answer.json()["access_token"]
                headers = {"Authorization": f"Bearer {self._token}"}
                answer = self._client.request(method, f"/api/v2{path}", json=body, headers=headers)
                break
            except (httpx.HTTPError, KeyError) as error:
                if isinstance(error, httpx.TimeoutException) and attempt < attempts:
                    continue
                raise UnreachableError(
                    f"Airflow does not answer ({error})", field="url", value=self.url, remedy="run `freshrank up`"
                ) from error
        if not answer.is_success and answer.status_code not in accept:
            raise UnreachableError(
                f"Airflow answers {answer.status_code}: {answer.text[:300]}",
                field="call",
                value=f"{method} {path}",
                remedy="see `freshrank logs airflow-api`",
            )
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status_code, answer.json() if is_json and answer.content else answer.text

    def trigger(self, day: dt.date, *, dag: str = DAG, again: bool = False) -> str:
        """Start the run for a day, which has the data interval [D 02:00, D+1 02:00).

        A run for the day that is there already is left alone; `again` clears it, so that all its tasks run again.

        Args:
            day: The day D.
            dag: Which DAG.
            again: Clear the day's run when there is one.

        Returns:
            The run's id.
        """
        if found := self.run_of(day, dag=dag):
            if again:
                self.clear(found, dag=dag)
            return found
        run_id = f"{dag}__{day.isoformat()}"
        start, end = (times.format_us(moment) for moment in (times.run_start(day), times.run_cut(day)))
        body = {
            "dag_run_id": run_id,
            "logical_date": start,
            "data_interval_start": start,
            "data_interval_end": end,
        }
        status, answer = self.call("POST", f"/dags/{dag}/dagRuns", body, accept=(404, 409))
        if status == 404:
            raise NotReadyError(
                "Airflow does not know the DAG (yet)",
                field="dag",
                value=dag,
                remedy="see `freshrank logs airflow-dags`",
            )
        if status == 409:  # another was faster, or an answer was lost on its way
            return self.run_of(day, dag=dag) or run_id
        return str(answer["dag_run_id"])

    def run_of(self, day: dt.date, *, dag: str = DAG) -> str | None:
        """Id of the run whose data interval begins on a day, triggered or scheduled; nothing when there is none.

        A schedule may begin it later than a trigger does.
        """
        start, end = times.day_start(day), times.day_start(day) + times.DAY - 1
        span = "&".join(
            f"logical_date_{edge}={quote(times.format_us(at), safe='')}" for edge, at in (("gte", start), ("lte", end))
        )
        status, answer = self.call("GET", f"/dags/{dag}/dagRuns?{span}", accept=(404,))
        return str(answer["dag_runs"][0]["dag_run_id"]) if status == 200 and answer["dag_runs"] else None

    def clear(self, run_id: str, *, dag: str = DAG, only_failed: bool = False) -> None:
        """Let a run's tasks run again.

        Args:
            run_id: The run.
            dag: Its DAG.
            only_failed: Clear failed tasks and what follows them alone.
        """
        self.call(
            "POST",
            f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/clear",
            {"dry_run": False, "only_failed": only_failed},
        )

    def run_state(self, run_id: str, *, dag: str = DAG) -> str:
        """State of a run: queued, running, success or failed."""
        _, answer = self.call("GET", f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}")
        return str(answer["state"])

    def tasks(self, run_id: str, *, dag: str = DAG) -> list[JsonObject]:
        """The run's task instances, each with `task_id`, `state`, `try_number`, `start_date`, `duration`."""
        _, answer = self.call("GET", f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=100")
        return list(answer["task_instances"])

    def xcom(self, run_id: str, task_id: str, *, dag: str = DAG, key: str = "return_value") -> Any:
        """What a task returned, or nothing."""
        path = f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
        status, answer = self.call("GET", path, accept=(404,))
        return answer["value"] if status == 200 else None

    def log(self, run_id: str, task_id: str, try_number: int, *, dag: str = DAG) -> str:
        """The log of one try of a task, as text."""
        path = f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/logs/{try_number}"
        _, answer = self.call("GET", path)
        lines = answer["content"] if isinstance(answer, dict) else [answer]
        return "\n".join(line["event"] if isinstance(line, dict) else str(line) for line in lines)

    def wait(
        self,
        run_id: str,
        *,
        expected: tuple[str, ...] = (),
        dag: str = DAG,
        timeout_s: float = 3600,
        progress: Callable[[str], None] | None = None,
    ) -> list[JsonObject]:
        """Wait until a run ends well.

        A run outside the DAG's dates is "success" without a task having run; so green is not enough, the expected
        tasks must have run.

        Args:
            run_id: The run.
            expected: Ids of tasks that must have succeeded.
            dag: Its DAG.
            timeout_s: Longest wait in seconds.
            progress: Called with a line when a task starts and when it ends, with its seconds.

        Returns:
            The task instances.

        Raises:
            RunFailed: If it failed, or a task that was expected did not run.
            NotReadyError: If it has not ended in time.
        """
        deadline = time.monotonic() + timeout_s
        answered = time.monotonic()
        seen: dict[str, tuple[object, ...]] = {}
        while True:
            try:
                state = self.run_state(run_id, dag=dag)
                instances = self.tasks(run_id, dag=dag)
            except UnreachableError:
                if time.monotonic() > answered + _PATIENCE_S:
                    raise
                time.sleep(1)
                continue
            answered = time.monotonic()
            for one in sorted(instances, key=lambda one: one["start_date"] or "9"):
                now = (one["state"], one["try_number"])
                if seen.get(one["task_id"]) != now and progress is not None and (said := _news(one)):
                    progress(f"{run_id}: {said}")
                seen[one["task_id"]] = now
            if state in ENDED:
                break
            if time.monotonic() > deadline:
                raise NotReadyError("the run has not ended", field="run", value=run_id, remedy="see Airflow's page")
            time.sleep(0.5)
        failed = [one["task_id"] for one in instances if one["state"] == "failed"]
        failed = failed or [one["task_id"] for one in instances if one["state"] == "upstream_failed"]
        done = {one["task_id"] for one in instances if one["state"] == "success"}
        if state == "failed" or failed:
            raise RunFailed(
                f"the run failed at {', '.join(failed) or 'no task'}", field="run", value=run_id,
                remedy=f"read the task's log at {self.url}, mend the cause, then clear the task",
            )  # fmt: skip
        if lost := [task for task in expected if task not in done]:
            raise RunFailed(
                f"the run is green and yet {', '.join(lost)} did not run", field="run", value=run_id,
                remedy="is the day outside the DAG's start and end?",
            )  # fmt: skip
        return instances


def _news(task: JsonObject) -> str:
    """What a task's new state says to who waits; nothing where it only waits itself."""
    words = {"running": "started", "success": "done", "up_for_retry": "failed, will be tried again", "failed": "failed"}
    state, again = task["state"], task["try_number"]
    if state not in (*words, "skipped", "upstream_failed"):
        return ""
    took = f" in {task['duration']:.1f} s" if task.get("duration") and state in ("success", "failed") else ""
    which = f", try {again}" if state == "running" and again > 1 else ""
    return f"{task['task_id']} {words.get(state, state)}{which}{took}"
