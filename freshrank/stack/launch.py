"""Become a program of the stack: `python launch.py NAME`, called by the supervisor.

The supervisor's file cuts values at ` ;` and ` #` and cannot quote a quote, so no path, argument or password of ours
stands in it. They are in `run/programs.json`, read here; then this process becomes the program. Standard library alone,
so that it takes no time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Replace this process by the program that is named."""
    programs = json.loads((Path(os.environ["FRESHRANK_STACK__DIR"]) / "run" / "programs.json").read_bytes())
    program = programs[sys.argv[1]]
    command: list[str] = program["command"]
    os.chdir(program["directory"])
    try:
        os.execve(command[0], command, {**os.environ, **program["environment"]})  # noqa: S606 - it is ours
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
