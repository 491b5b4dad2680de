"""The supervisor: PyPI's `supervisor`, configured by one file, spoken to over a unix socket."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xmlrpc.client import Fault, ProtocolError, ServerProxy

from features.atomic import write_text
from features.errors import FreshrankError, NotReadyError, UsageError
from freshrank.environment import variables
from freshrank.stack import processes
from freshrank.stack.server import Program, project_root

if TYPE_CHECKING:
    from freshrank.settings import Settings

_GONE = (OSError, ProtocolError, EOFError)
_LONGEST_SOCKET = 100  # the kernel takes 107 bytes, and the file is made under a longer name first


class Supervisor:
    """The supervisor of one stack.

    Args:
        settings: All settings.
        programs: Every program that it may have to run; none starts by itself.
    """

    def __init__(self, settings: Settings, programs: Iterable[Program]) -> None:
        self.settings, self.programs = settings, tuple(programs)
        self.run, self.logs = settings.layout.run, settings.layout.logs
        self.temp = self.run / "tmp"  # its children's: what they leave when they are killed goes with it
        self.socket = self.run / "supervisor.sock"
        self.identity = processes.stack_id(settings.layout.root)

    def _call(self, method: str, *arguments: object) -> Any:
        """Ask it something, on a connection that is closed afterwards."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)

    def is_alive(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("getState")["statecode"] in (0, 1))
        except (*_GONE, Fault):
            return False

    def pid(self) -> int:
        """Its process id.

        Raises:
            NotReadyError: If it does not answer.
        """
        try:
            return int(self._call("getPID"))
        except (*_GONE, Fault) as error:
            raise NotReadyError(f"the supervisor has gone: {error}", remedy="run `freshrank up` again") from error

    def start(self) -> None:
        """Start it with today's settings; nothing of the stack may run."""
        if len(str(self.socket)) > _LONGEST_SOCKET:
            raise UsageError(
                "the path is too long for a socket", field="stack.dir", value=str(self.settings.stack.dir),
                remedy=f"use a folder whose path has at most {_LONGEST_SOCKET - 20} characters",
            )  # fmt: skip
        shutil.rmtree(self.temp, ignore_errors=True)
        for folder in (self.run, self.logs, self.temp):
            folder.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        path = self.run / "supervisord.conf"
        write_text(path, self._config())
        programs = self.run / "programs.json"
        write_text(programs, self._programs())
        programs.chmod(0o600)  # it holds secrets
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(path)],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            cwd=self.settings.layout.root,  # from which its file names everything
        )
        deadline = time.monotonic() + 15
        while not ended.returncode and not self.is_alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            if not ended.returncode:
                write_text(self.run / "settings.sha256", self.digest())
                return
        raise NotReadyError(
            f"the supervisor does not start: {(ended.stderr or ended.stdout).strip()[-300:] or 'it says nothing'}",
            remedy=f"see {self.logs / 'supervisor.log'}",
        )

    def digest(self) -> str:
        """Hash of what its children were started with: another one means that they have to be started again."""
        from freshrank import settings as all_settings

        own = {one.name: one.text for one in variables(all_settings.Settings, os.environ)}
        text = repr(sorted(own.items())) + repr(self.settings)
        return hashlib.sha256((text + self._config() + self._programs()).encode()).hexdigest()

    def is_current(self) -> bool:
        """Whether it was started with today's settings."""
        try:
            return (self.run / "settings.sha256").read_text(encoding="utf-8") == self.digest()
        except FileNotFoundError:
            return False

    def _environment(self) -> dict[str, str]:
        """What all its children inherit."""
        from freshrank import settings as all_settings

        found = {
            **os.environ,
            **_direct_loopback(os.environ),
            processes.VARIABLE: self.identity,
            "TMPDIR": str(self.temp),
            "FRESHRANK_STACK__DIR": str(self.settings.stack.dir),
            "FRESHRANK_STACK__PORT_BASE": str(self.settings.stack.port_base),
            "FRESHRANK_AIRFLOW__SCHEDULE": self.settings.airflow.schedule,
            # Words of its file: the checkout may lie in a folder whose name means something there.
            "SUPERVISED_LAUNCH": shlex.join([sys.executable, str(Path(__file__).with_name("launch.py"))]),
        }
        file = all_settings.settings_file()
        if file.exists():
            found["FRESHRANK_SETTINGS"] = str(file)
        return found

    def _config(self) -> str:
        """Its file: nothing from outside stands in it, for it cuts values at ` ;` and ` #` and expands some twice."""
        lines = [
            "[unix_http_server]",
            f"file=run/{self.socket.name}",
            "chmod=0700",
            "[supervisord]",
            "logfile=logs/supervisor.log",
            "logfile_maxbytes=5MB",
            "logfile_backups=1",
            "pidfile=run/supervisord.pid",
            "childlogdir=logs",
            *([f"user={getpass.getuser()}"] if os.geteuid() == 0 else []),
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for program in self.programs:
            lines += [
                f"[program:{program.name}]",
                f"command=%(ENV_SUPERVISED_LAUNCH)s {program.name}",
                "autostart=false",
                "autorestart=true",
                "startsecs=2",
                "startretries=5",
                f"stopwaitsecs={program.stop_s}",
                "stopasgroup=true",
                "killasgroup=true",
                "redirect_stderr=true",
                f"stdout_logfile=logs/{program.name}.log",
                "stdout_logfile_maxbytes=20MB",
                "stdout_logfile_backups=2",
            ]
        return "\n".join(lines) + "\n"

    def _programs(self) -> str:
        """What `launch` reads: each program's command, variables and folder."""
        found = {
            program.name: {
                "command": program.command,
                "environment": program.environment,
                "directory": str(program.directory or project_root()),
            }
            for program in self.programs
        }
        return json.dumps(found, indent=1)

    def states(self) -> dict[str, dict[str, object]]:
        """What it says of each program, `statename`, `pid` and more; empty when it is not there."""
        try:
            return {one["name"]: one for one in self._call("getAllProcessInfo")}
        except (*_GONE, Fault):
            return {}

    def start_program(self, name: str) -> None:
        """Start a program that does not run; whether it stays up is for the probe to say."""
        try:
            self._call("startProcess", name, False)
        except Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise NotReadyError(
                    f"{name} cannot be started: {fault.faultString}", remedy=f"see `freshrank logs {name}`"
                ) from fault
        except _GONE as error:
            raise NotReadyError(f"the supervisor has gone: {error}", remedy="run `freshrank up` again") from error

    def stop_program(self, name: str) -> None:
        """Stop a program and wait for it; nothing to do when it does not run."""
        with contextlib.suppress(Fault, *_GONE):
            self._call("stopProcess", name, True)

    def shutdown(self) -> None:
        """Ask it to stop its programs and itself; a sweep follows, whatever came of it."""
        with contextlib.suppress(Fault, FreshrankError, *_GONE):
            longest = max((program.stop_s for program in self.programs), default=0) + 10
            deadline = time.monotonic() + longest
            self._call("stopAllProcesses", False)  # all at once; a shutdown alone stops them one after the other
            while time.monotonic() < deadline and any(one["statename"] == "STOPPING" for one in self.states().values()):
                time.sleep(0.1)
            self._call("shutdown")
            while time.monotonic() < deadline and self._answers():
                time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self._call("getState")
        except Fault:
            return True  # it answers that it is shutting down
        except _GONE:
            return False
        return True


def _direct_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep children from a proxy of the environment when they speak to each other.

    Example:
        >>> _direct_loopback({"no_proxy": "shop.example"})["NO_PROXY"]
        'shop.example,127.0.0.1,localhost,::1'
    """
    named = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in named.split(",") if host.strip()]
    value = ",".join(hosts + [host for host in ("127.0.0.1", "localhost", "::1") if host not in hosts])
    return {"no_proxy": value, "NO_PROXY": value}
