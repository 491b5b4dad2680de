"""Dependencies are declared once, in `pyproject.toml`: pins follow it, and rooms import what their extras bring."""

from __future__ import annotations

import ast
import functools
import itertools
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from freshrank.extras import lacking
from freshrank.pins import PINS

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+) \\\n(?P<rest>(?:    .*\n)*)", re.MULTILINE)
OWN = {"features", "trainer", "serving", "freshrank", "simulator", "dags", "tests"}
# What the process that runs a room installs beside the base.
EXTRAS = {
    "features": {"train"},  # content tokens
    "trainer": {"train"},
    "serving": {"gateway", "train"},
    "freshrank": {"gateway", "train", "stack", "report"},
    "simulator": {"simulator"},
}


@functools.cache
def declared() -> dict[str, list[str]]:
    """Requirements by extra or group; the base has the name ''."""
    read: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = read["project"]
    return {"": project["dependencies"], **project["optional-dependencies"], **read["dependency-groups"]}


def name_of(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return found[0].lower()


def parts_of(sources: tuple[str, ...]) -> set[str]:
    """The extras and groups that a file of pins is compiled from."""
    groups = {word for before, word in itertools.pairwise(sources) if before in ("--extra", "--group")}
    if "--all-extras" in sources:
        groups = declared().keys() - {"airflow", "triton"}
    return groups | ({""} if "pyproject.toml" in sources else set())


def pins(file: str) -> dict[str, tuple[str, str]]:
    """Package → version and the rest of its entry: hashes, and who asks for it."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return {found["name"]: (found["version"], found["rest"]) for found in PIN.finditer(text)}


@pytest.mark.parametrize("file", list(PINS))
def test_pins_are_those_of_what_is_declared(file: str) -> None:
    """Otherwise `make pins` was forgotten."""
    wanted = {name_of(line): line for part in parts_of(PINS[file]) for line in declared()[part]}
    made = pins(file)
    assert {name for name, (_, rest) in made.items() if "freshrank (pyproject.toml" in rest} == wanted.keys()
    for name, line in wanted.items():
        exact = re.search(r"==([\w.]+)", line)
        assert exact is None or made[name][0] == exact[1], name
    assert all("--hash=sha256:" in rest for _, rest in made.values())


@pytest.mark.parametrize("file", ["requirements/gateway.txt", "requirements/pipeline.txt"])
def test_production_runs_what_the_tests_ran_with(file: str) -> None:
    everything = pins("requirements/project.txt")
    assert {name: version for name, (version, _) in pins(file).items() if everything[name][0] != version} == {}


def test_the_gateway_has_no_torch_and_triton_the_torch_that_trained() -> None:
    assert "torch" not in pins("requirements/gateway.txt")
    assert pins("requirements/triton.txt")["torch"][0] == pins("requirements/project.txt")["torch"][0]


def test_pins_name_no_host() -> None:
    for file in PINS:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not re.search(r"://|--index|--extra-index|--find-links", text), file


@pytest.mark.parametrize("room", list(EXTRAS))
def test_a_room_imports_what_its_extras_bring(room: str) -> None:
    brought = {name_of(line) for part in ("", *EXTRAS[room]) for line in declared()[part]}
    packages = packages_distributions()
    for file in sorted((ROOT / room).rglob("*.py")):
        for module in _imported(ast.parse(file.read_text(encoding="utf-8"))) - OWN:
            names = {name.lower().replace("_", "-") for name in packages.get(module, [])}
            assert not names or names & brought, f"{file.relative_to(ROOT)} imports {module}, of {names}"


def _imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_a_missing_module_names_the_extra_that_brings_it() -> None:
    def line(module: str) -> str:
        return str(lacking(ModuleNotFoundError(name=module)))

    assert "install freshrank[train];" in line("torch.nn")
    assert "install freshrank[simulator] or freshrank[train];" in line("sklearn")
    assert "install freshrank[gateway];" in line("growthbook")
    assert lacking(ModuleNotFoundError(name="freshrank.nonsense")) is None
