"""`freshrank logs`: the servers' logs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def command(
    server: Annotated[str, typer.Argument(help="A server or program, such as kafka or airflow-scheduler.")] = "",
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="Lines of each log.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until interrupted.")] = False,
) -> None:
    """Show the servers' logs."""
    import subprocess

    from features.errors import UsageError
    from freshrank import settings as all_settings

    folder = all_settings.load().layout.logs
    every = sorted(folder.glob("*.log"))
    files = [file for file in every if server in ("", file.stem, file.stem.split("-")[0])]
    if not files:
        names = ", ".join(file.stem for file in every) or "none yet"
        raise UsageError("no such log", field="server", value=server, remedy=f"logs there are: {names}")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    try:
        sys.exit(subprocess.run(command).returncode)
    except KeyboardInterrupt:
        sys.exit(0)
