"""Every registered model trains on a window, is bundled, and scores as in the trainer through the serving runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from features.content.store import Widths
from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import Made, make_window
from trainer.bundle import make_bundle, verify
from trainer.checkpoints import Checkpoints
from trainer.data.stream import Position
from trainer.data.window import Window, chunks, raw, select
from trainer.probes import read_probes
from trainer.runtime.models.registry import REGISTRY
from trainer.runtime.scorer import Scorer, as_inputs
from trainer.train import Run, train

SMALL: dict[str, dict[str, Any]] = {
    "camenn": {"width": 16, "heads": 2, "feed_forward": 16, "experts": 2, "top_k": 1, "history_items": 3}
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A tiny window."""
    widths = Widths(text_tokens=16, text_width=6, image_width=8)
    folder = tmp_path_factory.mktemp("window")
    return make_window(folder, requests_a_day=12, days=3, items=30, candidates=5, widths=widths)


MARN = {"width": 8, "title_filters": 4, "hidden": [16]}
VARIANTS: list[tuple[str, dict[str, Any], str]] = [
    *((name, {}, "cvr") for name in sorted(REGISTRY)),
    ("camenn", {"attention": "joint"}, "cvr"),
    ("camenn", {"frame": "mmoe"}, "cvr"),
    ("camenn", {"frame": "mose"}, "cvr"),
    ("camenn", {"history": "tokens"}, "ctr"),
    ("marn", MARN | {"fusion": "conc"}, "cvr"),
    ("marn", MARN | {"fusion": "ids"}, "cvr"),
    ("marn", MARN | {"fusion": "maf"}, "ctr"),
    ("mmoe", {}, "ctr"),
]


@pytest.mark.parametrize(
    ("name", "recipe", "task"),
    VARIANTS,
    ids=["-".join([n, *(v for v in r.values() if isinstance(v, str)), t]) for n, r, t in VARIANTS],
)
def test_trains_bundles_and_scores_the_same(
    name: str, recipe: dict[str, Any], task: str, made: Made, tmp_path: Path
) -> None:
    recipe = SMALL.get(name, {}) | recipe
    settings: dict[str, Any] = {
        "epochs": 1,
        "validations_per_epoch": 1,
        "max_buys": 4,
        "max_behaviours": 5,
        "tasks": (task,),
    }
    job = make_job(made, tmp_path, name, recipe, **settings)
    with one_worker(tmp_path):
        result = train(job)
        bundle = tmp_path / "bundles" / make_bundle(job, tmp_path / "bundles")
        trained = _trainer_logits(job, result.step, task)
    assert result.steps > 0
    verify(bundle)
    scorer = Scorer(bundle)
    assert f"{REGISTRY[name].__name__}" == type(scorer.ranker).__name__
    together, alone = _scores(scorer, made)
    for output in scorer.outputs:
        assert np.isfinite(together[output]).all()
        np.testing.assert_allclose(alone[output], together[output], rtol=1e-5, atol=2e-5, err_msg="alone as in a batch")
    np.testing.assert_allclose(together[f"{task}_logit"], trained, rtol=1e-5, atol=2e-5, err_msg="served as trained")
    for inputs, scores in read_probes(bundle):
        for output, logits in scorer.score(inputs).items():
            np.testing.assert_allclose(logits, scores[output], atol=1e-6)


def _trainer_logits(job: Any, step: int, task: str) -> np.ndarray[Any, Any]:
    """Logits of the held-out requests by the trainer's own sharded module, from its checkpoint."""
    from dataclasses import replace

    from trainer.job import Prepared

    run = Run(job, Prepared.load(job.folder / "inputs"))
    Checkpoints(job.folder).load(run.tensors(), step)
    run.model.eval()
    run.validation.part = replace(run.validation.part, start=0, end=2**62, limit=0)
    run.validation._stride = 1
    with torch.no_grad():
        found = [run.model(batch.encoded, score=True)[task] for batch in run.validation.epoch(Position())]
    return torch.cat(found).numpy()


def _scores(scorer: Scorer, made: Made) -> tuple[dict[str, Any], dict[str, Any]]:
    columns = list(scorer.encoding.columns())
    together: dict[str, list[Any]] = {name: [] for name in scorer.outputs}
    alone: dict[str, list[Any]] = {name: [] for name in scorer.outputs}
    for chunk in chunks(Window(made.window).training, columns, 16):
        found = raw(chunk, columns)
        for name, logits in scorer.score_raw(found).items():
            together[name].append(logits)
        for row in range(chunk.rows.num_rows):
            one = scorer.score(as_inputs(select(found, np.array([row])), scorer.inputs))
            for name, logits in one.items():
                alone[name].append(logits)
    return ({n: np.concatenate(v) for n, v in together.items()}, {n: np.concatenate(v) for n, v in alone.items()})
