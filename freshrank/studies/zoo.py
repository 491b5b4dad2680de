"""All registered models on one window: trained from nothing in the same way, scored on day D by the serving runtime."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from features import atomic
from trainer.bundle import load_scorer, make_bundle
from trainer.data.window import Window
from trainer.evaluate.metrics import auc, log_loss, user_auc
from trainer.evaluate.score import score_day, shown
from trainer.job import Job
from trainer.result import Result
from trainer.tokens import TokenStore

SLOW = ("naml", "camenn", "fashionbert", "marn", "xdeepfm", "mmss", "dmf", "dien", "dupn")  # in this order


@dataclass(frozen=True)
class ZooRow:
    """What one model reached on day D.

    Args:
        model: Its name.
        auc: AUC over all candidates.
        user_auc: AUC within users, averaged.
        log_loss: Log loss over all candidates.
        new_auc: AUC over listings that no training day showed; None where they have one class only.
        uniform_auc: AUC over requests that were ranked uniformly at random.
        positives: Positives of the day.
        new_positives: Those on new listings.
        dense: Parameters of the network.
        tables: Parameters of the embedding tables.
        batches: Batches trained.
        seconds: Seconds of training, preparation included.
        scoring_ms: Milliseconds of scoring a candidate.
    """

    model: str
    auc: float | None
    user_auc: float | None
    log_loss: float | None
    new_auc: float | None
    uniform_auc: float | None
    positives: int
    new_positives: int
    dense: int
    tables: int
    batches: int
    seconds: float
    scoring_ms: float


def zoo(jobs: Sequence[Job], bundles: Path, say: Callable[[str], None], workers: int = 1) -> list[ZooRow]:
    """Train, bundle and score; what is done already is not done again.

    Args:
        jobs: A training for each model, all of one window, without an incumbent.
        bundles: Folder of all bundles.
        say: Takes lines of progress.
        workers: Models at a time, each in a process of its own.

    Returns:
        A row a model, best AUC first.
    """
    rows = []
    for row in _measured(jobs, bundles, workers):
        rows.append(row)
        say(f"{row.model}: AUC {_shown(row.auc)}, log loss {_shown(row.log_loss)}, {row.seconds:.0f} s")
    return sorted(rows, key=lambda row: -(row.auc or 0.0))


def _measured(jobs: Sequence[Job], bundles: Path, workers: int) -> Iterator[ZooRow]:
    """Rows as they get done; the slowest models begin, so that none is left over at the end."""
    if workers == 1:
        yield from (measure(job, bundles) for job in jobs)
        return
    order = sorted(jobs, key=lambda job: SLOW.index(job.model) if job.model in SLOW else len(SLOW))
    # torch is loaded here: a forked child would hang in its threads
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread)
    try:
        for done in as_completed([pool.submit(measure, job, bundles) for job in order]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """A worker's scoring, as its training, has a core to itself."""
    import torch

    torch.set_num_threads(1)


def measure(job: Job, bundles: Path) -> ZooRow:
    """One model's row.

    Args:
        job: Its training.
        bundles: Folder of all bundles.
    """
    noted = job.folder / "zoo.json"
    if noted.exists():
        return ZooRow(**json.loads(noted.read_text(encoding="utf-8")))
    began = time.perf_counter()
    result = _train(job)
    seconds = time.perf_counter() - began
    bundle = bundles / make_bundle(job, bundles)
    window = Window(Path(job.window))
    scorer = load_scorer(bundle, TokenStore(Path(job.tokens)) if job.tokens else None)
    task = job.settings.tasks[0]
    began = time.perf_counter()
    day = score_day(window.evaluation, {"candidate": scorer}, task, shown(window))
    scoring = time.perf_counter() - began
    logit = day.logits["candidate"]
    dense, tables = _parameters(bundle)
    row = ZooRow(
        model=job.model,
        auc=auc(logit, day.label),
        user_auc=user_auc(logit, day.label, day.user),
        log_loss=log_loss(logit, day.label),
        new_auc=auc(logit[day.new], day.label[day.new]),
        uniform_auc=auc(logit[day.uniform], day.label[day.uniform]),
        positives=int(day.label.sum()),
        new_positives=int(day.label[day.new].sum()),
        dense=dense,
        tables=tables,
        batches=result.steps,
        seconds=round(seconds, 1),
        scoring_ms=round(1000 * scoring / max(len(day.label), 1), 3),
    )
    atomic.write_text(noted, json.dumps(asdict(row)))
    return row


def table(rows: Sequence[ZooRow]) -> str:
    """The rows as Markdown."""
    head = (
        "| model | AUC | by user | log loss | AUC, new listings | AUC, uniform requests | network | tables "
        "| seconds | ms a candidate |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    lines = []
    for row in rows:
        figures = [row.auc, row.user_auc, row.log_loss, row.new_auc, row.uniform_auc]
        sizes = [f"{count / 1000:.0f}k" for count in (row.dense, row.tables)]
        cells = [row.model, *map(_shown, figures), *sizes, f"{row.seconds:.0f}", f"{row.scoring_ms:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, *lines])


def _train(job: Job) -> Result:
    """Train in this process: the libraries are imported once for all models."""
    import torch

    from trainer.job import prepare
    from trainer.train import train

    threads = torch.get_num_threads()
    prepare(job)
    job.save(job.folder / "job.json")
    try:
        with _one_worker():
            return train(job)
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _one_worker() -> Iterator[None]:
    """A process group of this process alone, without a port."""
    import torch.distributed as dist
    from torch._C._distributed_c10d import HashStore

    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _parameters(bundle: Path) -> tuple[int, int]:
    """Numbers in the network, and in the embedding tables."""
    from safetensors import safe_open

    def count(files: Iterator[Path]) -> int:
        total = 0
        for path in files:
            with safe_open(path, "pt") as tensors:
                total += sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118
        return total

    return count(bundle.glob("dense.safetensors")), count((bundle / "embeddings").glob("*.safetensors"))


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
