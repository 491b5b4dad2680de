"""The house holds: rooms, light imports, a command line that answers without loading anything heavy."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from freshrank import cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("room", ["features", "trainer", "serving", "freshrank", "simulator", "dags"])
def test_each_room_says_what_it_is_for_in_one_sentence(room: str) -> None:
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
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
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    for name in cli.COMMANDS:
        assert name in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "freshrank.cli", name, "--help"],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Usage:" in run.stdout


def _commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by the words that call it."""
    root = typer.main.get_command(cli.app)
    assert isinstance(root, TyperGroup)
    for name in cli.COMMANDS:
        command = root.get_command(typer.Context(root), name)
        yield name, command
        yield from ((f"{name} {under}", inner) for under, inner in getattr(command, "commands", {}).items())


def test_every_result_can_be_had_as_json() -> None:
    without = {
        words
        for words, command in _commands()
        if not {"--json"} & {option for parameter in command.params for option in parameter.opts}
        and (not hasattr(command, "commands") or command.invoke_without_command)
    }
    assert without == {"logs", "source describe"}, "logs have no result; describe hands its words, --json too, on"


def test_completion_belongs_to_the_root_and_knows_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_FRESHRANK_COMPLETE": "complete_bash"}
        command = [sys.executable, "-m", "freshrank.cli"]
        run = subprocess.run(
            command, capture_output=True, encoding="utf-8", cwd=ROOT, env={**os.environ, **words}, check=True
        )
        return run.stdout.split()

    assert completed("freshrank ") == list(cli.COMMANDS)
    assert completed("freshrank experiment s") == ["stop", "show"]
    assert {"--date", "--json"} <= set(completed("freshrank window build --"))
    installing = {words for words, command in _commands() if "install_completion" in {p.name for p in command.params}}
    assert installing == set()
    assert "install_completion" in {parameter.name for parameter in typer.main.get_command(cli.app).params}


def test_an_unknown_command_exits_2() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "freshrank.cli", "nope"], capture_output=True, encoding="utf-8", check=False
    )
    assert run.returncode == 2
    assert "nope" in run.stderr


def test_a_public_class_has_a_name_of_its_own() -> None:
    """Two classes of one name are told apart by their imports alone, in code and in talk."""
    rooms = [f"{room}/*.py" for room in ("features", "trainer", "serving", "freshrank", "simulator")]
    files = subprocess.run(
        ["git", "ls-files", *rooms], capture_output=True, encoding="utf-8", cwd=ROOT, check=True
    ).stdout.split()
    owners: dict[str, list[str]] = {}
    for file in files:
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners.setdefault(node.name, []).append(file)
    assert len(owners) > 200
    assert {name: found for name, found in owners.items() if len(found) > 1} == {}


def _text_without_encoding(source: str) -> Iterator[int]:
    """Lines that read or write text as the locale says."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        named = {keyword.arg for keyword in node.keywords}
        modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        opens = name == "open" and owner not in ("os", "Image") and not any("b" in mode for mode in modes)
        whole = method and (name == "read_text" or (name == "write_text" and owner != "atomic"))
        pipe = name in ("run", "Popen", "check_output") and bool({"text", "universal_newlines"} & named)
        if (opens or whole or pipe) and "encoding" not in named:
            yield node.lineno


def test_text_is_read_and_written_with_a_named_encoding() -> None:
    files = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    found = [
        f"{name}:{line}"
        for name in files.stdout.splitlines()
        for line in _text_without_encoding((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert not found
    assert list(_text_without_encoding("path.read_text()")) == [1], "the check itself cannot fail"


def _clients_of_the_environments_proxies(source: str) -> Iterator[int]:
    """Lines that make a client which would speak to a server of ours through a proxy of the environment."""
    direct = {"httpx": "trust_env", "grpc": "channel_args"}
    makers = {"Client", "AsyncClient", "get", "post", "request", "stream", "InferenceServerClient"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in makers:
            owner = ast.unparse(node.func.value).rpartition(".")[2]
            if owner in direct and direct[owner] not in {keyword.arg for keyword in node.keywords}:
                yield node.lineno


def test_every_client_of_our_servers_says_what_it_does_with_a_proxy() -> None:
    outside = {"features/content/fetch.py"}  # photos of the world, by the environment's way out
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for room in ("features", "trainer", "serving", "freshrank")
        for path in (ROOT / room).rglob("*.py")
        if str(path.relative_to(ROOT)) not in outside
        for line in _clients_of_the_environments_proxies(path.read_text(encoding="utf-8"))
    ]
    assert not found
    assert list(_clients_of_the_environments_proxies("httpx.get(url)\ngrpc.InferenceServerClient(url)")) == [1, 2]


def test_commit_hooks_are_the_checkouts_own_tools() -> None:
    """A hook that fetches its tool has another version than `make lint`, and needs a network."""
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"repo: *(.*)", text)) == {"local"}
    entries = re.findall(r"entry: *(\S+)", text)
    assert {"ruff", "codespell", "deptry"} <= {Path(entry).name for entry in entries}
    assert all(entry.startswith(".venv/bin/") for entry in entries)
