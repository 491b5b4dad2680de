"""A built wheel, installed into an empty environment, runs from any folder: images install it.

The environment borrows the libraries of the gateway's, base and extra `gateway`, and sees nothing of the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest

from freshrank import cli
from freshrank.stack import addresses
from tests.stack import free_ports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ROOT / ".envs" / "gateway" / "lib" / "python3.11" / "site-packages"


def call(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command with no setting of the tester's own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FRESHRANK_", "PYTHON"))}
    environ["FRESHRANK_STACK__PORT_BASE"] = str(free_ports())
    ended = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, encoding="utf-8", timeout=120)
    assert not check or ended.returncode == 0, ended.stderr[-3000:]
    return ended


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    uv = ROOT / ".setup" / "uv" / "bin" / "uv"
    call(uv, "venv", "-q", "--offline", "--no-project", "--python", sys.executable, folder, cwd=wheel.parent)
    python = folder / "bin" / "python"
    call(uv, "pip", "install", "-q", "--offline", "--no-deps", "--python", python, wheel, cwd=wheel.parent)
    # Adds the folder alone: its own .pth, by which the gateway's environment finds the checkout, is not read.
    site = folder / "lib" / "python3.11" / "site-packages"
    (site / "libraries.pth").write_text(f"{LIBRARIES}\n", encoding="utf-8")
    code = "import sys, features, trainer, serving, freshrank\nfor m in (features, freshrank): print(m.__file__)"
    found = call(python, "-c", f"{code}\nprint(*sys.path, sep='\\n')", cwd=wheel.parent).stdout
    assert str(site) in found
    assert str(ROOT) not in found.replace(str(ROOT / ".envs"), "")
    return folder / "bin"


def test_every_file_of_the_rooms_is_in_the_wheel(wheel: Path) -> None:
    rooms = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    tracked = call("git", "ls-files", *rooms["wheel"]["packages"], cwd=ROOT).stdout.split()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in tracked if (ROOT / name).exists() and name not in names] == []
    assert "features/schemas/clicks.json" in names


def test_help_and_version_answer_from_any_folder(bin_folder: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert call(bin_folder / "freshrank", "--version", cwd=tmp_path).stdout == f"freshrank {project['version']}\n"
    shown = call(bin_folder / "freshrank", "--help", cwd=tmp_path).stdout
    assert [name for name in cli.COMMANDS if name not in shown] == []
    assert "Kafka" in call(bin_folder / "freshrank", "ingest", "--help", cwd=tmp_path).stdout


def test_settings_and_state_lie_in_the_current_folder(bin_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "freshrank.toml").write_text("[train]\nseed = 7\n", encoding="utf-8")
    rows = json.loads(call(bin_folder / "freshrank", "settings", "--json", cwd=tmp_path).stdout)
    values = {row["name"]: row["value"] for row in rows}
    assert values["train.seed"] == "7"
    assert values["stack.dir"] == f"'{tmp_path / '.freshrank'}'"


def test_ingest_without_kafka_says_so(bin_folder: Path, tmp_path: Path) -> None:
    ended = call(bin_folder / "freshrank", "ingest", cwd=tmp_path, check=False)
    assert ended.returncode == 5, ended.stderr
    assert ended.stderr.startswith("freshrank: Kafka does not answer")


def test_status_needs_no_stack_of_its_own(bin_folder: Path, tmp_path: Path) -> None:
    shown = call(bin_folder / "freshrank", "status", cwd=tmp_path).stdout
    assert shown.count("an installed package starts none") == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["up"], "the local stack needs a checkout"),
        (["demo"], "needs a checkout"),
        (["topics", "schemas"], "needs a checkout"),
        (["train", "--date", "2025-01-01"], "install freshrank[train]"),
    ],
)
def test_what_an_installed_package_cannot_do_is_one_line(
    bin_folder: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    ended = call(bin_folder / "freshrank", *words, cwd=tmp_path, check=False)
    assert ended.returncode == 2, ended.stderr
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_gateway_starts_from_any_folder(bin_folder: Path, tmp_path: Path) -> None:
    base = free_ports()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FRESHRANK_", "PYTHON"))}
    environ["FRESHRANK_STACK__PORT_BASE"] = str(base)
    with (tmp_path / "log").open("wb") as log:
        command = [str(bin_folder / "python"), "-m", "freshrank.stack.gateway"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
    try:
        url, deadline = f"http://{addresses.HOST}:{base + addresses.GATEWAY}/healthz", time.monotonic() + 120
        while True:
            try:
                assert httpx.get(url, timeout=5, trust_env=False).json()["generation"] == 0
                break
            except httpx.HTTPError as error:
                words = (tmp_path / "log").read_text(encoding="utf-8")
                assert process.poll() is None, words
                assert time.monotonic() < deadline, f"{error}\n{words}"
                time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(30)
