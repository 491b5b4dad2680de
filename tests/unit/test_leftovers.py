"""Nothing is left behind: not in the temp directory, and in the stack's folders nothing of what was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.atomic import new_folder
from features.facts import connection
from features.layout import Layout
from features.scratch import scratch, sweep

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys
from pathlib import Path
from features.scratch import scratch
with scratch(Path(sys.argv[1]), "work-") as folder:
    (folder / "spilt").write_bytes(b"x" * 1000)
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_killed_process_leaves_what_the_next_one_sweeps_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, encoding="utf-8",
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        dead, living = (child.stdout.readline().strip() for child in children if child.stdout)
        children[0].send_signal(signal.SIGKILL)
        children[0].wait(10)
        assert names(tmp_path) == sorted([dead, f"{dead}.alive", living, f"{living}.alive"])
        with scratch(tmp_path, "work-") as mine:
            assert names(tmp_path) == sorted([living, f"{living}.alive", mine.name, f"{mine.name}.alive"])
        assert sweep(tmp_path, "work-") == 0
        assert (tmp_path / living / "spilt").exists()
        children[1].communicate(timeout=10)
        assert names(tmp_path) == []
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_folder_that_failed_or_was_renamed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "one") as work:
        (work / "half").touch()
        raise RuntimeError
    assert names(tmp_path) == []
    with new_folder(tmp_path / "one") as work:
        (work / "whole").touch()
    assert names(tmp_path) == ["one"]
    assert names(tmp_path / "one") == ["whole"]


def test_a_connection_spills_into_the_stack_and_leaves_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with connection(layout) as con:
        (setting,) = con.execute("SELECT current_setting('temp_directory')").fetchone() or ("",)
        assert Path(setting).parent == layout.run
    assert names(layout.run) == []


@pytest.mark.slow
def test_feast_makes_no_folder_in_the_temp_directory_not_even_while_it_lives(tmp_path: Path) -> None:
    code = (
        "import os; from features.store.registry import import_feast; import_feast();"
        "import feast.metrics, feast.feature_store, prometheus_client;"
        "names = ('PROMETHEUS_MULTIPROCESS_DIR', 'PROMETHEUS_MULTIPROC_DIR');"
        "assert not any(name in os.environ for name in names), 'children would count into it';"
        "counter = prometheus_client.Counter('ours', 'In this process', ['arm']); counter.labels('a').inc();"
        "os.kill(os.getpid(), 9)"
    )
    env = os.environ | {"TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert names(tmp_path) == []
