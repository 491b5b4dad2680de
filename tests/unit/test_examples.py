"""The examples run: what a newcomer copies works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.windows import make_window

ROOT = Path(__file__).resolve().parents[2]


def example(name: str, *words: str | Path) -> str:
    """What an example prints."""
    command = [sys.executable, ROOT / "examples" / name, *words]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_a_flat_set_is_made_and_the_model_with_interactions_wins(tmp_path: Path) -> None:
    shown = example("flat_set.py", tmp_path)
    auc = {model: float(text) for model, text in re.findall(r"(\w+): AUC ([\d.]+)", shown)}
    assert auc["fm"] > auc["lr"] + 0.1, shown


@pytest.mark.slow
def test_a_window_is_opened_and_its_batch_shown(tmp_path: Path) -> None:
    made = make_window(tmp_path, requests_a_day=20, days=2)
    shown = example("window_batch.py", made.window)
    scored = re.search(r"camenn scores cvr \[(\d+)\]", shown)
    assert scored, shown
    assert re.search(rf"Batch\.request_S +\[{scored[1]}\] int64", shown), shown
    for name in ("embedded['main']['user_id']", "masks_BL['buys']", "content.text_ITD", "labels_S['cvr']"):
        assert f"Batch.{name} " in shown
