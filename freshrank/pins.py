"""Compile the pins with hashes, `requirements/*.txt`, from what `pyproject.toml` declares: `make pins`.

Run it with a bare Python 3.11, `python3.11 -m freshrank.pins`; it needs the standard library and the set-up's uv. What
is pinned stays as it is where it still fits; words are handed on to uv, such as `--upgrade-package httpx`.
"""

from __future__ import annotations

import os
import subprocess
import sys

from freshrank.bootstrap import ROOT, UV, say, uv_environment

_EVERYTHING = "requirements/project.txt"
_FIXED = ("-q", "--python", "3.11", "--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links")

# file -> what it is compiled from. The product's own have the versions of the first, which tests run with.
PINS: dict[str, tuple[str, ...]] = {
    _EVERYTHING: ("pyproject.toml", "--all-extras"),
    "requirements/gateway.txt": ("pyproject.toml", "--extra", "gateway", "--constraints", _EVERYTHING),
    "requirements/pipeline.txt": ("pyproject.toml", "--extra", "train", "--constraints", _EVERYTHING),
    "requirements/airflow.txt": ("--group", "airflow"),
    "requirements/triton.txt": ("--group", "triton"),
}


def main(words: list[str]) -> int:
    """Compile every file.

    Args:
        words: More arguments of `uv pip compile`.

    Returns:
        0, or 2 where something has to be mended first: uv's own words say what.
    """
    if not UV.exists():
        say("pins: uv is missing; run `make setup`")
        return 2
    for file, sources in PINS.items():
        command = [str(UV), "pip", "compile", *_FIXED, *sources, *words, "--output-file", file]
        if subprocess.run(
            command, cwd=ROOT, env={**os.environ, **uv_environment()}, stdout=subprocess.DEVNULL
        ).returncode:
            say(f"pins: {file} cannot be compiled; mend what uv says above")
            return 2
        say(f"pins: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
