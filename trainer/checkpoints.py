"""Checkpoints by torch.distributed.checkpoint: whole or not there, loadable by any number of workers."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from features import atomic
from trainer.schedule import EarlyStopping


@dataclass
class TrainingState:
    """Where a training stands.

    Args:
        step: Batches done.
        position: `epoch`, `chunk`, `batch` of the next batch.
        stopping: Validation runs so far, by their loss.
        validations: Every validation run: step, loss, auc.
    """

    step: int
    position: tuple[int, int, int]
    stopping: EarlyStopping
    validations: list[dict[str, float | None]] | None = None

    @property
    def best_step(self) -> int:
        """Step of the best validation run, whose weights are the result; -1 before the first."""
        return self.stopping.best_at

    def to_json(self) -> str:
        """What `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrainingState:
        """Read what `to_json` wrote."""
        found = json.loads(text)
        return cls(**found | {"stopping": EarlyStopping(**found["stopping"])})


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: Folder of the training.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """Folder of the checkpoint after some batches."""
        return self.folder / f"step-{step:08d}"

    def latest(self) -> TrainingState | None:
        """Where the newest whole checkpoint stands."""
        found = sorted(p for p in self.folder.glob("step-*") if (p / "state.json").exists())
        return TrainingState.from_json((found[-1] / "state.json").read_text(encoding="utf-8")) if found else None

    def save(self, tensors: dict[str, object], state: TrainingState) -> None:
        """Write a checkpoint; all workers call it. Older ones but the best go."""
        target, work = self.path(state.step), self.folder / f".step-{state.step:08d}"
        if _rank() == 0:
            shutil.rmtree(work, ignore_errors=True)
        _barrier()
        with _quiet():
            save(tensors, checkpoint_id=work)
        _barrier()
        if _rank() == 0:
            if target.exists():  # the same batch, validated since: its tensors are the same
                shutil.rmtree(work)
                atomic.write_text(target / "state.json", state.to_json())
            else:
                atomic.write_text(work / "state.json", state.to_json())
                work.rename(target)
            keep = {target, self.path(state.best_step)}
            for old in self.folder.glob("step-*"):
                if old not in keep:
                    shutil.rmtree(old, ignore_errors=True)
        _barrier()

    def load(self, tensors: dict[str, object], step: int) -> None:
        """Load a checkpoint in place; all workers call it."""
        with _quiet():
            load(tensors, checkpoint_id=self.path(step))


def read_full(path: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, whole, in this process alone.

    Args:
        path: A checkpoint's folder.
    """
    metadata = FileSystemReader(path).read_metadata().state_dict_metadata
    found: dict[str, Tensor] = {
        key: torch.empty(value.size, dtype=value.properties.dtype)
        for key, value in metadata.items()
        if isinstance(value, TensorStorageMetadata)
    }
    with _quiet():
        load(found, checkpoint_id=path, no_dist=True)
    return found


def _quiet() -> warnings.catch_warnings[None]:
    return warnings.catch_warnings(action="ignore")


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
