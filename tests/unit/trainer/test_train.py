"""Training: sharded tables equal plain ones, workers, kills, warm starts, bundles."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from features.errors import DataError, NotReadyError, WorkerDiedError
from tests.stack import until
from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import Made, make_window, sha
from trainer.attempts import Attempt
from trainer.bundle import make_bundle, verify
from trainer.checkpoints import Checkpoints, read_full
from trainer.data.stream import Position
from trainer.data.window import Window
from trainer.embeddings.sharded import fill, initial, table_name
from trainer.embeddings.warm import SUMS
from trainer.job import Job, prepare
from trainer.launch import launch
from trainer.popularity import make_popularity
from trainer.probes import read_probes
from trainer.runtime.lookup import Lookup
from trainer.runtime.models.registry import model_class
from trainer.runtime.scorer import Scorer
from trainer.tokens import TokenStore
from trainer.train import Run, train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small window."""
    return make_window(tmp_path_factory.mktemp("window"), requests_a_day=30, days=4, candidates=6)


def job_of(made: Made, folder: Path, **values: Any) -> Job:
    recipe = values.pop("recipe", {"width": 6})  # not a multiple of four: tables are padded
    return make_job(
        made, folder, values.pop("model", "deepfm"), recipe, validations_per_epoch=2, checkpoint_batches=2, **values
    )


def final(job: Job) -> dict[str, torch.Tensor]:
    """The result's tensors."""
    import json

    step = json.loads((job.folder / "done.json").read_text(encoding="utf-8"))["step"]
    return read_full(Checkpoints(job.folder).path(step))


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=atol, rtol=0, msg=partial("{}: {}".format, name))


def torchrun(job: Job, workers: int) -> subprocess.Popen[bytes]:
    job.save(job.folder / "job.json")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(workers),
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
        "-m", "trainer.train", str(job.folder / "job.json"),
    ]  # fmt: skip
    temporary = job.folder.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_sharded_lookup_equals_the_plain_one(made: Made, tmp_path: Path) -> None:
    job = job_of(made, tmp_path)
    with one_worker(tmp_path):
        run = Run(job, prepare(job))
        weights = {table_name(t): weight for t, weight in initial(run.lookup.layout, 0)}
        fill(run.model, weights, {})
        schema = run.prepared.encoding.schema
        plain = Lookup(schema, model_class(job.model).spaces(schema, job.recipe))
        for t in plain.layout:
            with torch.no_grad():
                plain.weight(t.space, t.table).copy_(weights[table_name(t)][:, : t.width])
        encoded = next(iter(run.training.epoch(Position()))).encoded
        one, other = run.lookup(encoded), plain(encoded)
    assert {space: set(of) for space, of in one.items()} == {space: set(of) for space, of in other.items()}
    for space, of in other.items():
        for name, x in of.items():
            assert x.shape[1] % 4 or space != "main"
            torch.testing.assert_close(one[space][name], x, atol=0, rtol=0)


def test_one_worker_and_two_end_alike(made: Made, tmp_path: Path) -> None:
    """Batches are the same and gradients are averaged by candidates, so only rounding differs."""
    recipe = {"width": 6, "dropout": 0.0}  # each worker drops its own
    jobs = [job_of(made, tmp_path / name, epochs=1, recipe=recipe) for name in ("one", "two")]
    prepare(jobs[1])
    process = torchrun(jobs[1], 2)
    with one_worker(tmp_path / "one"):
        train(jobs[0])
    assert process.wait(300) == 0
    one, two = final(jobs[0]), final(jobs[1])
    sums = [name for name in one if name.startswith("tables.")]
    for name in sums:  # sums of squared gradients: twice the gradient would be four times the sum
        torch.testing.assert_close(one.pop(name), two.pop(name), rtol=0.1, atol=1e-6)
    assert sums
    assert_equal(one, two, atol=0.01)  # Adagrad divides by the gradient's own size: rounding of tiny ones shows


def test_killed_training_ends_as_an_undisturbed_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed: the command says so, the next one goes on from the checkpoint; no temporary file is left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    whole, killed = (job_of(made, tmp_path / name, epochs=6, patience=99) for name in ("whole", "killed"))
    prepare(killed)
    killed.save(killed.folder / "job.json")
    with ThreadPoolExecutor(1) as pool:
        launched = pool.submit(launch, killed, 1, ROOT)
        with one_worker(tmp_path / "whole"):
            train(whole)
        until(lambda: Checkpoints(killed.folder).latest() or launched.done(), "a checkpoint of the training", 240)
        worker = next(p for p in of_training(killed) if "trainer.train" in p.cmdline())
        worker.kill()
        with pytest.raises(WorkerDiedError, match="killed by SIGKILL after the checkpoint of batch"):
            launched.result(60)
    assert not (killed.folder / "done.json").exists()
    until(lambda: not of_training(killed), "nothing of it to run")
    assert not list(temporary.iterdir()) and not Attempt(killed).folder.exists()
    with one_worker(tmp_path / "killed"):
        train(killed)
    assert_equal(final(whole), final(killed))


def of_training(job: Job) -> list[psutil.Process]:
    """The processes of a training."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and str(job.folder) in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_a_number_that_is_not_finite_on_one_worker_stops_both(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with that worker's error and exit code; a killed one before it left nothing that stays."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    tokens = tmp_path / "tokens" / made.tokens.name
    shutil.copytree(made.tokens, tokens)
    rows = [row for path in Window(made.window).training for row in pq.read_table(path).to_pylist()]
    shown = Counter(item for row in rows for item in {*row["cand_item"], *row["buy_item"], *row["beh_item"]})
    rare = next(item for item, _ in reversed(shown.most_common()) if int(item[1:]) > 2)
    store = TokenStore(tokens)
    file = np.memmap(tokens / "image_global.f16", "<f2", "r+")
    vectors = file.reshape(-1, store.widths.image_width)
    vectors[int(store.rows([sha(f"photo {rare[1:]}")])[0])] = np.nan
    file.flush()
    recipe = {"width": 8, "title_filters": 2, "title_windows": [2], "hidden": [4], "history_items": 2}
    job = job_of(replace(made, tokens=tokens), tmp_path, model="marn", recipe=recipe, requests_per_batch=4)
    prepare(job)
    job.save(job.folder / "job.json")
    left = Attempt(job)
    left.begin()
    (left.temporary / "torchelastic_left").mkdir()
    with pytest.raises(DataError, match=r"for the tokens of .* is not finite") as told:
        launch(job, 2, ROOT)
    having = {row["request_id"] for row in rows if rare in {*row["cand_item"], *row["buy_item"], *row["beh_item"]}}
    assert told.value.exit_code == 3 and set(told.value.value) <= having  # type: ignore[call-overload]
    assert not list(temporary.iterdir()) and not left.folder.exists()
    assert not of_training(job)


def test_same_seed_same_bundle_other_seed_another(made: Made, tmp_path: Path) -> None:
    bundles = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        job = job_of(made, tmp_path / name, seed=seed, epochs=1)
        with one_worker(tmp_path / name):
            train(job)
        bundles.append(make_bundle(job, tmp_path / name / "bundles"))
        assert make_bundle(job, tmp_path / name / "bundles") == bundles[-1]
    assert bundles[0] == bundles[1] != bundles[2]


def test_warm_start_carries_rows_by_key(made: Made, tmp_path: Path) -> None:
    first = job_of(made, tmp_path / "first", epochs=1)
    with one_worker(tmp_path / "first"):
        train(first)
    bundle = tmp_path / "bundles" / make_bundle(first, tmp_path / "bundles")
    later = make_window(tmp_path / "later", requests_a_day=30, days=5, candidates=6, seed=7, users=60)
    second = job_of(replace(later, tokens=made.tokens), tmp_path / "second", incumbent=bundle)
    prepared = prepare(second)
    assert prepared.plan.warm and prepared.plan.epochs == 1
    old = Scorer(bundle).encoding.vocabularies["user_id"]
    new = prepared.encoding.vocabularies["user_id"]
    assert len(new) > len(old) and all(new[key] == row for key, row in old.items())
    with one_worker(tmp_path / "second"):
        run = Run(second, prepared)
        run.begin()
        tables = {key: value for key, value in run.model.state_dict().items() if key.endswith("user_id.weight")}
        sums = run.tensors()["tables"]
        weights = load_file(bundle / "embeddings" / "main.safetensors")
        (table,) = (t for key, t in tables.items() if "main__" in key)
        now = table.local_shards()[0].tensor if hasattr(table, "local_shards") else table
        for key, row in old.items():
            assert torch.equal(now[new[key], :6], weights["user_id"][row]), key
        held = sums["main__user_id"]
        held = held.local_shards()[0].tensor if hasattr(held, "local_shards") else held
        assert torch.equal(held[: len(old) + 1], weights["user_id" + SUMS])
        assert (held[len(old) + 1 :] == 0).all()
        result = train(second)
    assert result.warm


def test_an_incumbent_of_another_kind_is_not_carried_on(made: Made, tmp_path: Path) -> None:
    first = job_of(made, tmp_path / "first", epochs=1)
    with one_worker(tmp_path / "first"):
        train(first)
    bundle = tmp_path / "bundles" / make_bundle(first, tmp_path / "bundles")
    for values, why in (({"model": "fm"}, "is a deepfm"), ({"recipe": {"width": 8}}, "another recipe")):
        plan = prepare(job_of(made, tmp_path / why.replace(" ", ""), incumbent=bundle, **values)).plan
        assert not plan.warm and why in plan.warm_start_reason


def test_served_logit_makes_up_for_thinning(made: Made, tmp_path: Path) -> None:
    job = job_of(made, tmp_path, epochs=1, negatives_kept=0.5)
    with one_worker(tmp_path):
        train(job)
    scorer = Scorer(tmp_path / "bundles" / make_bundle(job, tmp_path / "bundles"))
    inputs, scores = read_probes(scorer.folder)[0]
    with torch.inference_mode():
        logits = scorer.ranker(scorer.batch(scorer.raw(inputs)))["cvr"].numpy()
    np.testing.assert_allclose(scores["cvr_logit"], logits + np.log(0.5), atol=1e-6)


@pytest.fixture(scope="module")
def popular(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The window's popularity bundle, which is the quickest to make."""
    folder = tmp_path_factory.mktemp("bundles")
    return folder / make_popularity(Window(made.window), folder)


def test_popularity_is_a_bundle(popular: Path, made: Made) -> None:
    verify(popular)
    scorer = Scorer(popular)
    assert [i.name for i in scorer.inputs] == ["cand__item"] and scorer.outputs == ["cvr_logit"]
    scores = scorer.score({"cand__item": np.array(["i3", "never seen", ""], object)})["cvr_logit"]
    assert scores[1] == scores[2] != scores[0]
    assert make_popularity(Window(made.window), popular.parent) == popular.name


@pytest.mark.parametrize("harm", ["changed", "missing", "extra", "unsummed"])
def test_a_corrupt_bundle_is_refused(popular: Path, tmp_path: Path, harm: str) -> None:
    bundle = tmp_path / popular.name
    shutil.copytree(popular, bundle)
    target = bundle / "embeddings" / "popularity.safetensors"
    if harm == "changed":
        target.write_bytes(target.read_bytes()[:-1] + b"x")
    elif harm == "missing":
        target.unlink()
    elif harm == "extra":
        (bundle / "more").write_text("", encoding="utf-8")
    else:
        (bundle / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match="corrupt"):
        verify(bundle)


def test_wrong_inputs_have_clear_answers(popular: Path) -> None:
    scorer = Scorer(popular)
    with pytest.raises(ValueError, match="cand__item is missing"):
        scorer.score({})
    with pytest.raises(ValueError, match="one dimension"):
        scorer.score({"cand__item": np.array([["i1"]], object)})
    assert scorer.score({"cand__item": np.array([], object)})["cvr_logit"].shape == (0,)


def test_bundle_needs_a_finished_training(made: Made, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="has not finished"):
        make_bundle(job_of(made, tmp_path), tmp_path / "bundles")
