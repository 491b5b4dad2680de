"""Training inside the test process: one worker, no ports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist

from features.configuration import read
from tests.trainer.windows import Made
from trainer.job import Job
from trainer.recipes import checked_recipe
from trainer.settings import TrainSettings


@contextlib.contextmanager
def one_worker(folder: Path) -> Iterator[None]:
    """A process group of this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    store = dist.FileStore(str(folder / "store"), 1)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
        (folder / "store").unlink(missing_ok=True)


def make_job(
    made: Made,
    root: Path,
    model: str,
    recipe: dict[str, Any] | None = None,
    incumbent: Path | None = None,
    **settings: Any,
) -> Job:
    """A job on a made-up window."""
    values = {"threads": 1, "requests_per_batch": 16, "min_count": 1, **settings}
    return Job(
        window=str(made.window),
        tokens=str(made.tokens),
        checkpoints=str(root / "checkpoints"),
        model=model,
        recipe=checked_recipe(model, recipe or {}),
        settings=read(TrainSettings, values),
        incumbent=str(incumbent) if incumbent else None,
    )
