"""The commands train, bundle, evaluate and gate, one after the other in a stack of their own, and again."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features import atomic
from features.content.encode import encoder_hash
from features.errors import NotReadyError, UsageError
from freshrank import judgement, retrain
from freshrank.cli import app
from freshrank.settings import Settings, load
from tests.trainer.windows import make_window
from trainer.bundle import verify

pytestmark = pytest.mark.slow

DAY = dt.date(2025, 3, 9)
SETTINGS = """
[stack]
dir = "stack"
[train]
threads = 1
requests_per_batch = 16
min_count = 1
evaluations = 1
negatives_per_positive = 4.0
[train.recipe.camenn]
width = 8
heads = 2
feed_forward = 8
experts = 2
top_k = 1
history_items = 2
[gate]
min_requests = 5
min_positives = 2
over_popularity = -1.0
max_log_loss_over_popularity = 1000.0
max_calibration_error = 1000.0
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A stack with the windows of two days."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "freshrank.toml").write_text(SETTINGS, encoding="utf-8")
    made = load(folder / "freshrank.toml")
    for day in (DAY, DAY + dt.timedelta(days=1)):
        window = make_window(
            made.layout.root, requests_a_day=12, days=3, items=40, day=day, encoder=encoder_hash(made.content)
        )
        atomic.write_text(made.layout.step(day, "window"), json.dumps({"window_id": window.window.name}))
    return made


@pytest.fixture(autouse=True)
def use(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHRANK_SETTINGS", str(settings.stack.dir.parent / "freshrank.toml"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(*words: str) -> dict[str, object]:
    found = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    said: dict[str, object] = json.loads(found.stdout.strip().splitlines()[-1])
    return said


def test_from_window_to_blessing_and_again(settings: Settings) -> None:
    layout, day = settings.layout, ("--date", DAY.isoformat())
    with pytest.raises(NotReadyError, match="train has not run"):
        retrain.bundle(DAY)
    first = run("train", *day)
    assert first["new"] and not first["warm"]
    bundled = run("bundle", *day)
    bundle = str(bundled["bundle"])
    verify(layout.bundle(bundle))
    assert (layout.bundle(bundle) / "code" / "trainer" / "scoring" / "scorer.py").exists()
    with pytest.raises(NotReadyError, match="evaluate has not run"):
        judgement.gate(DAY)
    figures = judgement.evaluate(DAY)
    assert set(figures["bundles"]) == {"candidate", "popularity"}
    assert 0 <= figures["slices"]["all"]["candidate"]["auc"] <= 1
    assert figures["slices"]["new"]["candidates"] > 0 and figures["alignment"]["products"] > 0
    assert 0 <= figures["alignment"]["ita"]["random"] <= 1
    assert layout.step(DAY, "evaluate").with_suffix(".parquet").exists()
    decision = run("gate", *day)
    assert decision["blessed"] is True and decision["reasons"]
    blessing = json.loads((layout.bundles / f"{bundle}.blessing.json").read_text(encoding="utf-8"))
    assert blessing["bundle"] == bundle and blessing["blessed"]

    again = run("train", *day)
    assert not again["new"] and again["train"] == first["train"]
    assert run("bundle", *day)["bundle"] == bundle

    _go_live(layout.serving_state, bundle)
    repeated = run("train", *day)
    assert repeated["train"] == first["train"], "a run repeated after its deployment does not start from itself"
    assert "incumbent" not in judgement.evaluate(DAY)["bundles"]

    tomorrow = DAY + dt.timedelta(days=1)
    warm = retrain.train(tomorrow)
    assert warm.warm and bundle in warm.why
    candidate = retrain.bundle(tomorrow).bundle
    beside = judgement.evaluate(tomorrow)["bundles"]
    assert (beside["candidate"], beside["incumbent"]) == (candidate, bundle)
    final = judgement.evaluate(DAY, final=True)
    assert final["mature_share"] == 1 and final["bundles"]["candidate"] == bundle


def _go_live(path: Path, bundle: str) -> None:
    version = {"triton_model": "m", "version": 1, "state": "LIVE"}
    state = {"generation": 1, "next_version": 2, "aliases": {"champion": bundle}, "versions": {bundle: version}}
    atomic.write_text(path, json.dumps(state))


def test_a_refusal_is_an_answer(settings: Settings) -> None:
    layout, day = settings.layout, DAY + dt.timedelta(days=30)
    figures = json.loads(layout.step(DAY, "evaluate").read_text(encoding="utf-8"))
    figures["slices"]["all"]["requests"] = 1
    atomic.write_text(layout.step(day, "evaluate"), json.dumps(figures))
    atomic.write_text(layout.step(day, "bundle"), layout.step(DAY, "bundle").read_text(encoding="utf-8"))
    assert run("gate", "--date", day.isoformat())["blessed"] is False
    figures["bundles"]["incumbent"] = "another"
    atomic.write_text(layout.step(day, "evaluate"), json.dumps(figures))
    with pytest.raises(NotReadyError, match="did not meet the present incumbent"):
        judgement.gate(day)


def test_without_a_window() -> None:
    with pytest.raises(NotReadyError):
        retrain.train(dt.date(2001, 1, 1))


def test_usage() -> None:
    for words in (["train"], ["train", "--date", "2025-03-09", "--data", "x"], ["train", "--date", "x"]):
        with pytest.raises(UsageError):
            CliRunner().invoke(app, words, catch_exceptions=False)
    with pytest.raises(UsageError, match="unknown model"):
        retrain.train(DAY, "nonsense")
