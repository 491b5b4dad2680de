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
from freshrank.cli import app
from freshrank.pipeline import bundle, evaluate, gate, train
from freshrank.pipeline.bundle import Bundled
from freshrank.pipeline.evaluate import Evaluated, FinallyEvaluated
from freshrank.pipeline.gate import Decision
from freshrank.pipeline.train import Trained
from freshrank.pipeline.window import WindowBuilt
from freshrank.settings import Settings, load
from tests.trainer.run import one_worker
from tests.trainer.windows import make_window
from trainer.bundle import verify
from trainer.checkpoints import TrainingState
from trainer.data.stream import Step
from trainer.train import Run
from trainer.train import train as fit

pytestmark = pytest.mark.slow

DAY = dt.date(2025, 3, 9)
SETTINGS = """
[stack]
dir = "stack"
[train]
threads = 1
requests_per_batch = 16
min_count = 1
validations_per_epoch = 1
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
        built = WindowBuilt(
            window_id=window.window.name, date=day.isoformat(), days=[], rows=36, eval_rows=12, candidates=0,
            purchases=0, items=40, new=True,
        )  # fmt: skip
        built.leave(made.layout, day)
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
        bundle.run(settings, DAY)
    first = run("train", *day)
    assert first["new"] and not first["warm"]
    made = str(run("bundle", *day)["bundle"])
    verify(layout.bundle(made))
    assert (layout.bundle(made) / "code" / "trainer" / "runtime" / "scorer.py").exists()
    with pytest.raises(NotReadyError, match="evaluate has not run"):
        gate.run(settings, DAY)
    evaluated = evaluate.run(settings, DAY)
    assert Evaluated.read(layout, DAY) == evaluated, "the note is the result's encoding"
    figures = evaluated.figures
    assert set(figures.bundles) == {"candidate", "popularity"}
    auc = figures.slices["all"].of["candidate"].auc
    assert auc is not None and 0 <= auc <= 1
    assert figures.alignment is not None
    assert figures.slices["new"].candidates > 0 and figures.alignment.products > 0
    shares = [one.random for one in figures.alignment.of.values()]
    assert len(shares) == 2 and all(share is not None and 0 <= share <= 1 for share in shares)
    assert layout.step(DAY, "evaluate").with_suffix(".parquet").exists()
    decision = run("gate", *day)
    assert decision["blessed"] is True and decision["reasons"]
    blessing = Decision.on(layout, made)
    assert blessing == Decision.read(layout, DAY)
    assert blessing is not None and blessing.bundle == made and blessing.blessed

    again = run("train", *day)
    assert not again["new"] and again["train"] == first["train"]
    assert run("bundle", *day)["bundle"] == made
    assert (Trained.read(layout, DAY).train, Bundled.read(layout, DAY).bundle) == (first["train"], made)

    _go_live(layout.serving_state, made)
    repeated = run("train", *day)
    assert repeated["train"] == first["train"], "a run repeated after its deployment does not start from itself"
    assert "incumbent" not in evaluate.run(settings, DAY).figures.bundles

    tomorrow = DAY + dt.timedelta(days=1)
    warm = train.run(settings, tomorrow)
    assert warm.warm and made in warm.warm_start_reason
    candidate = bundle.run(settings, tomorrow).bundle
    beside = evaluate.run(settings, tomorrow).figures.bundles
    assert (beside["candidate"], beside["incumbent"]) == (candidate, made)
    final = evaluate.run(settings, DAY, final=True)
    assert final.figures.mature_share == 1 and final.figures.bundles["candidate"] == made
    assert FinallyEvaluated.read(layout, DAY) == final


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
        gate.run(settings, day)


def test_the_best_checkpoint_is_the_result_on_demand(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a training that was stopped; its bundle says so. One that has no checkpoint yet has nothing to accept."""
    day = ("--date", DAY.isoformat(), "--model", "lr")
    with pytest.raises(UsageError, match="no checkpoint to accept"):
        train.run(settings, DAY, model="lr", accept_best=True)
    job = train.make_job(settings, DAY, "lr")
    step = Run.step

    def stopped(self: Run, batch: Step, state: TrainingState) -> None:
        if state.validations:
            raise KeyboardInterrupt
        step(self, batch, state)

    with monkeypatch.context() as patch, one_worker(tmp_path), pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "step", stopped)
        fit(job)
    done = run("train", *day, "--accept-best")
    assert done["train"] == job.id and done["new"] and done["accepted"] == "stopped by hand"
    assert run("train", *day) == done | {"new": False, "seconds": pytest.approx(0, abs=60)}
    made = settings.layout.bundle(str(run("bundle", *day)["bundle"]))
    assert json.loads((made / "bundle.json").read_text(encoding="utf-8"))["accepted"] == "stopped by hand"


def test_without_a_window(settings: Settings) -> None:
    with pytest.raises(NotReadyError, match="window has not run"):
        train.run(settings, dt.date(2001, 1, 1))


def test_usage(settings: Settings) -> None:
    both = ["train", "--date", "2025-03-09", "--data", "x"]
    for words in (["train"], both, ["train", "--date", "x"], ["train", "--data", "x", "--accept-best"]):
        with pytest.raises(UsageError):
            CliRunner().invoke(app, words, catch_exceptions=False)
    with pytest.raises(UsageError, match="unknown model"):
        train.run(settings, DAY, model="nonsense")
