"""Settings of training."""

from __future__ import annotations

from pydantic import Field

from features.settings import Section


class TrainSettings(Section):
    """Training."""

    model: str = Field("camenn", description="Registered model to train.")
    seed: int = Field(0, ge=0, description="Seed of initial weights, order and sampling.")
    workers: int = Field(1, ge=1, le=64, description="Processes that torchrun starts on this host.")
    threads: int = Field(2, ge=1, le=256, description="CPU threads of each process.")
    epochs: int = Field(2, ge=1, le=100, description="Epochs from nothing, at most.")
    requests_per_batch: int = Field(32, ge=1, le=65536, description="Requests a batch.")
    negatives_kept: float = Field(
        1.0, gt=0, le=1, description="Share of negatives kept in training (one for a window)."
    )
    replay_share: float = Field(0.2, ge=0, le=1, description="Share of older days replayed in a warm start.")
