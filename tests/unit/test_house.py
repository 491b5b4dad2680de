"""The house holds: rooms, light imports, a command line that answers without loading anything heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

from freshrank import cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("room", ["features", "trainer", "serving", "freshrank", "dags"])
def test_each_room_says_what_it_is_for_in_one_sentence(room: str) -> None:
    text = (ROOT / room / "__init__.py").read_text()
    assert text.startswith('"""')
    assert text.count("\n") == 1


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['freshrank', '--help']\n"
        "from freshrank import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'duckdb', 'feast', 'pydantic', 'numpy', 'kafka'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    for name in cli.COMMANDS:
        assert name in run.stdout


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "freshrank.cli", name, "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Usage:" in run.stdout


def test_an_unknown_command_exits_2() -> None:
    run = subprocess.run([sys.executable, "-m", "freshrank.cli", "nope"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "nope" in run.stderr
