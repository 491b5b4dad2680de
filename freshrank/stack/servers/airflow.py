"""Airflow's api-server, scheduler and DAG processor; not `standalone`, which listens on every address."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from features.atomic import write_text
from features.errors import NotReadyError, UnreachableError
from freshrank.airflow import DAG, AirflowClient
from freshrank.stack import addresses
from freshrank.stack.server import NotYet, Program, Server, project_root

if TYPE_CHECKING:
    from freshrank.settings import Settings

POOL = "training"  # of one: a training has the machine's memory to itself


class Airflow(Server):
    """Three programs on one database."""

    name = "airflow"
    ready_within_s = 300.0

    def address(self, settings: Settings) -> str:
        """Its URL, for people and REST."""
        return addresses.airflow_url(settings)

    def ports(self, settings: Settings) -> tuple[int, ...]:
        """The api-server's."""
        return (addresses.port(settings, addresses.AIRFLOW),)

    def programs(self, settings: Settings) -> tuple[Program, ...]:
        """The three programs.

        A scheduler waits for ever for an idle worker once a task has run, so it gets a deadline, then SIGKILL.
        """
        variables, command = self._environment(settings), str(_bin() / "airflow")
        serve = ("--host", addresses.HOST, "--port", str(self.ports(settings)[0]), "--workers", "1")
        return (
            Program("airflow-api", (command, "api-server", *serve), variables, stop_s=10),
            Program("airflow-scheduler", (command, "scheduler", "--skip-serve-logs"), variables, stop_s=8),
            Program("airflow-dags", (command, "dag-processor"), variables, stop_s=8),
        )

    def prepare(self, settings: Settings) -> None:
        """Make its folder and its secret; make or upgrade the database where this version has not yet."""
        if not (_bin() / "airflow").exists():
            raise NotReadyError("Airflow's environment is missing", remedy="run `make setup`")
        home = _home(settings)
        home.mkdir(parents=True, exist_ok=True)
        ensure_secret(settings)
        done, version = home / "migrated", _version()
        if (home / "airflow.db").exists() and done.exists() and done.read_text(encoding="utf-8") == version:
            return
        ended = subprocess.run(
            [str(_bin() / "airflow"), "db", "migrate"],
            env={**os.environ, **self._environment(settings)},
            capture_output=True,
            encoding="utf-8",
        )
        if ended.returncode:
            raise NotReadyError(
                f"Airflow's database cannot be made: {(ended.stderr or ended.stdout).strip()[-300:]}",
                field="folder",
                value=str(home),
                remedy="mend what it says, or remove the folder to begin without history",
            )
        write_text(done, version)

    def _environment(self, settings: Settings) -> dict[str, str]:
        home, url = _home(settings), self.address(settings)
        secret = home / "jwt_secret"
        variables = {
            "CORE__DAGS_FOLDER": str(project_root() / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "2",
            "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # it listens on loopback alone
            "API__BASE_URL": url,
            "API_AUTH__JWT_SECRET": secret.read_text(encoding="utf-8") if secret.exists() else "",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "LOGGING__BASE_LOG_FOLDER": str(settings.layout.logs / "airflow"),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "60",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            # A training takes every core: its neighbours answer late, and late is not dead.
            "CORE__DAGBAG_IMPORT_TIMEOUT": "120",
            "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "180",
            "WORKERS__EXECUTION_API_TIMEOUT": "60",
            "WORKERS__MAX_FAILED_HEARTBEATS": "10",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        return {
            **{f"AIRFLOW__{name}": value for name, value in variables.items()},
            "AIRFLOW_HOME": str(home),
            "PATH": f"{_bin()}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            # Process titles would otherwise overwrite the environment by which a stack's processes are found.
            "SPT_NOENV": "1",
        }

    def look(self, settings: Settings) -> str:
        """All three say that they are healthy, the daily DAG is parsed, and the pool that training runs in is there."""
        try:
            with AirflowClient(self.address(settings)) as airflow:
                _healthy(airflow)
                status, _ = airflow.call("GET", f"/pools/{POOL}", accept=(404,))
                if status == 404:
                    raise NotYet(f"it has no pool {POOL}")
        except UnreachableError as error:
            raise NotYet(error.what) from error
        return ""

    def probe(self, settings: Settings) -> None:
        """All three say that they are healthy, and the daily DAG is parsed; make the pool that training runs in."""
        try:
            with AirflowClient(self.address(settings)) as airflow:
                _healthy(airflow)
                pool = {"name": POOL, "slots": 1, "description": "One training at a time", "include_deferred": False}
                airflow.call("POST", "/pools", pool, accept=(409,))
        except UnreachableError as error:
            raise NotYet(error.what) from error


def _healthy(airflow: AirflowClient) -> None:
    _, health = airflow.call("GET", "/monitor/health")
    for part in ("metadatabase", "scheduler", "dag_processor"):
        if health[part]["status"] != "healthy":
            raise NotYet(f"its {part} is {health[part]['status']}")
    status, _ = airflow.call("GET", f"/dags/{DAG}", accept=(404,))
    _, errors = airflow.call("GET", "/importErrors")
    if errors["total_entries"]:
        first = errors["import_errors"][0]
        raise NotYet(f"{first['filename']}: {first['stack_trace'].strip().splitlines()[-1]}")
    if status == 404:
        raise NotYet(f"it has not parsed the DAG {DAG} yet")


def ensure_secret(settings: Settings) -> None:
    """Make the secret with which Airflow's parts sign what they tell each other, once a stack."""
    secret = _home(settings) / "jwt_secret"
    if not secret.exists():
        write_text(secret, secrets.token_hex(32))
        secret.chmod(0o600)


def _bin() -> Path:
    return project_root() / ".envs" / "airflow" / "bin"


def _home(settings: Settings) -> Path:
    return settings.layout.root / "airflow"


def _version() -> str:
    site = project_root() / ".envs" / "airflow" / "lib" / "python3.11" / "site-packages"
    return next((folder.name for folder in sorted(site.glob("apache_airflow_core-*.dist-info"))), "unknown")
