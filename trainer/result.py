"""How a training ended: what `done.json` of its folder encodes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from features import atomic
from features.encoded import read_typed


@dataclass(frozen=True)
class Result:
    """How a training ended.

    Args:
        step: Step of the best checkpoint, which is the result.
        steps: Batches trained.
        epochs: Epochs begun.
        warm: Whether it started from the incumbent.
        warm_start_reason: Why, or why not.
        loss: Log loss of the best validation run; None where nothing is held out.
        auc: AUC of it; None where it has but one class.
        validations: Every validation run: step, loss, auc.
        accepted: What stopped it where its best checkpoint was accepted nevertheless; empty where it came to its end.
    """

    step: int
    steps: int
    epochs: int
    warm: bool
    warm_start_reason: str
    loss: float | None
    auc: float | None
    validations: list[dict[str, int | float | None]]
    accepted: str = ""

    @staticmethod
    def file(folder: Path) -> Path:
        """Where a training's result lies once it has ended."""
        return folder / "done.json"

    def save(self, folder: Path) -> None:
        """Write it into the training's folder."""
        atomic.write_text(self.file(folder), json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the training has not ended.
            DataError: If the file is damaged.
        """
        return read_typed(cls, cls.file(folder), remedy="remove it and run `freshrank train` again")
