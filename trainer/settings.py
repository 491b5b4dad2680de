"""Settings of training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from features.settings import Section


class TrainSettings(Section):
    """Training."""

    model: str = Field("camenn", description="Registered model to train.")
    seed: int = Field(0, ge=0, description="Seed of initial weights, order and sampling.")
    workers: int = Field(1, ge=1, le=64, description="Processes that torchrun starts on this host.")
    threads: int = Field(2, ge=1, le=256, description="CPU threads of each process, and of evaluation.")
    epochs: int = Field(2, ge=1, le=100, description="Epochs from nothing, at most.")
    requests_per_batch: int = Field(32, ge=1, le=65536, description="Requests a batch.")
    negatives_kept: float = Field(
        1.0, gt=0, le=1, description="Share of negatives kept in training (one for a window)."
    )
    warm_rate: float = Field(0.1, gt=0, le=1, description="Learning rates of a warm start, as a share of the recipe's.")
    replay_share: float = Field(0.2, ge=0, le=1, description="Share of older days replayed in a warm start.")
    tasks: tuple[Literal["cvr", "ctr"], ...] = Field(
        ("cvr",), min_length=1, description="Labels to learn; the first decides early stopping and the gate."
    )
    negatives_per_positive: float = Field(
        0.0, ge=0, description="Thin negatives to this many a positive; 0: only negatives_kept counts."
    )
    max_candidates: int = Field(
        0, ge=0, description="Thin negatives so far that an epoch has about this many candidates; 0: no limit."
    )
    recipe: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Model name to fields of its recipe that differ from the defaults."
    )
    validations_per_epoch: int = Field(
        4, ge=1, le=1000, description="Validation runs an epoch, over the held-out last tenth."
    )
    patience: int = Field(4, ge=1, le=1000, description="Validation runs in a row without gain before training stops.")
    validation_requests: int = Field(
        1024, ge=1, description="Requests of a validation run, evenly spaced over the last tenth."
    )
    checkpoint_batches: int = Field(100, ge=1, description="Batches between two checkpoints.")
    min_count: int = Field(2, ge=1, description="Times a key must be seen to get an embedding of its own.")
    max_rows: int = Field(2_000_000, ge=1, description="Keys a vocabulary holds, at most.")
    buckets: int = Field(20, ge=2, le=1000, description="Equal-frequency buckets of a number.")
    max_buys: int = Field(50, ge=1, le=50, description="Bought items kept of a history.")
    max_behaviours: int = Field(100, ge=1, le=100, description="Clicks, carts and purchases kept of a history.")


class GateSettings(Section):
    """When a candidate may replace the incumbent."""

    min_requests: int = Field(100, ge=1, description="Requests of day D that the verdict needs.")
    min_positives: int = Field(20, ge=1, description="Positives of day D that the verdict needs.")
    max_auc_loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="AUC the candidate may lie behind the incumbent, at the interval's lower end.",
    )
    over_popularity: float = Field(
        0.0, ge=-1, le=1, description="AUC the candidate must lie above popularity (the point estimate counts)."
    )
    max_log_loss_over_popularity: float = Field(
        0.0,
        ge=-1,
        description="Share of popularity's log loss that the candidate may lie above it (the point estimate counts).",
    )
    max_log_loss_rise: float = Field(
        0.02,
        ge=0,
        description="Share of the incumbent's log loss the candidate may lie above it, at the interval's upper end.",
    )
    max_calibration_error: float = Field(
        0.3, ge=0, description="Distance of predicted over actual conversions from 1 that is allowed."
    )
    min_mature_positives: int = Field(
        100,
        ge=1,
        description="Mature positives from which on calibration is judged on mature labels alone; with fewer "
        "all of day D's labels count as known at the cut.",
    )
    bootstraps: int = Field(200, ge=10, le=100_000, description="Resamples of requests behind an interval.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
