"""How a training gets on: lines on stderr, and TensorBoard's events."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import Tensor

from trainer.data.stream import Step
from trainer.job import Job

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Progress:
    """Lines for people, and TensorBoard's events; the first worker alone speaks.

    Args:
        job: The training.
    """

    every_s = 5.0  # between two lines about batches

    def __init__(self, job: Job) -> None:
        self.first = dist.get_rank() == 0
        self.candidates = 0
        self.began = self.spoke = time.monotonic()
        self.board: SummaryWriter | None = None
        if self.first and job.log:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(Path(job.log) / job.id)

    def say(self, text: str) -> None:
        """One line."""
        if self.first:
            print(f"train: {text}", file=sys.stderr, flush=True)

    def step(
        self, step: int, done: float, batch: Step, losses: dict[str, float], expert_use: dict[str, Tensor]
    ) -> bool:
        """Note a batch, the share of all epochs done with it, its losses and what share of it chose each expert.

        Returns:
            Whether it was time for a line, every `every_s` seconds, on each worker.
        """
        self.candidates += batch.candidates
        if self.board:
            for name, loss in losses.items():
                self.board.add_scalar(f"loss/{name}", loss, step)
            for task, use_M in expert_use.items():
                for expert, share in enumerate(use_M.tolist()):
                    self.board.add_scalar(f"expert_use/{task}/{expert}", share, step)
        now = time.monotonic()
        if now - self.spoke < self.every_s:
            return False
        self.spoke = now
        shown = " ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        rate = self.candidates / (now - self.began)
        self.say(f"batch {step}, {done:.0%}, {rate:.0f} candidates/s, loss {shown}")
        return True

    def validation(self, step: int, loss: float | None, auc: float | None) -> None:
        """Note a validation run."""
        if loss is None:
            self.say(f"batch {step}, nothing is held out: the newest weights are the result")
            return
        shown = "–" if auc is None else f"{auc:.4f}"
        self.say(f"batch {step}, validation: log loss {loss:.4f}, AUC {shown}")
        if self.board:
            self.board.add_scalar("val/log_loss", loss, step)
            if auc is not None:
                self.board.add_scalar("val/auc", auc, step)
