"""A small city once round the loop on real servers; lived once, looked at by several tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Loop:
    """A finished demo.

    Args:
        folder: Its folder below `runs/`.
        said: What it printed.
    """

    folder: Path
    said: str

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json`."""
        return dict(json.loads((self.folder / "summary.json").read_text(encoding="utf-8")))

    def run(self, *words: str) -> dict[str, Any]:
        """Run a command on the demo's stack and read its line of JSON."""
        environ = {**os.environ, "FRESHRANK_SETTINGS": str(self.folder / "freshrank.toml")}
        done = subprocess.run(
            [sys.executable, "-m", "freshrank.cli", *words, "--json"],
            capture_output=True,
            encoding="utf-8",
            env=environ,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def live(folder: Path, port_base: int) -> Loop:
    """Run `freshrank demo --small` in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "freshrank.cli", "demo", "--small", "--name", "loop", "--port-base", str(port_base)],
        cwd=folder, capture_output=True, encoding="utf-8", check=False, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return Loop(folder / "runs" / "loop", done.stdout)
