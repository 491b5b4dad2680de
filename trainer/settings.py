"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from features.configuration import Natural, Share, Size, Weight
from features.settings import Section


@dataclass(frozen=True)
class TrainSettings(Section):
    """Training."""

    model: Annotated[str, Field(description="Registered model to train.")] = "camenn"
    seed: Annotated[Natural, Field(description="Seed of initial weights, order and sampling.")] = 0
    workers: Annotated[int, Field(ge=1, le=64, description="Processes that torchrun starts on this host.")] = 1
    threads: Annotated[int, Field(ge=1, le=256, description="CPU threads of each process, and of evaluation.")] = 2
    epochs: Annotated[int, Field(ge=1, le=100, description="Epochs from nothing, at most.")] = 2
    requests_per_batch: Annotated[int, Field(ge=1, le=65536, description="Requests a batch.")] = 32
    negatives_kept: Annotated[
        float, Field(gt=0, le=1, description="Share of negatives kept in training (one for a window).")
    ] = 1.0
    warm_rate: Annotated[
        float, Field(gt=0, le=1, description="Learning rates of a warm start, as a share of the recipe's.")
    ] = 0.1
    replay_share: Annotated[Share, Field(description="Share of older days replayed in a warm start.")] = 0.2
    tasks: Annotated[
        tuple[Literal["cvr", "ctr"], ...],
        Field(min_length=1, description="Labels to learn; the first decides early stopping and the gate."),
    ] = ("cvr",)
    negatives_per_positive: Annotated[
        Weight, Field(description="Thin negatives to this many a positive; 0: only negatives_kept counts.")
    ] = 0.0
    max_candidates: Annotated[
        Natural, Field(description="Thin negatives so far that an epoch has about this many candidates; 0: no limit.")
    ] = 0
    recipe: Annotated[
        dict[str, dict[str, Any]],
        Field(description="Model name to fields of its recipe that differ from the defaults."),
    ] = field(default_factory=dict)
    validations_per_epoch: Annotated[
        int, Field(ge=1, le=1000, description="Validation runs an epoch, over the held-out last tenth.")
    ] = 4
    patience: Annotated[
        int, Field(ge=1, le=1000, description="Validation runs in a row without gain before training stops.")
    ] = 4
    validation_requests: Annotated[
        Size, Field(description="Requests of a validation run, evenly spaced over the last tenth.")
    ] = 1024
    checkpoint_batches: Annotated[Size, Field(description="Batches between two checkpoints.")] = 100
    min_count: Annotated[Size, Field(description="Times a key must be seen to get an embedding of its own.")] = 2
    max_rows: Annotated[Size, Field(description="Keys a vocabulary holds, at most.")] = 2_000_000
    buckets: Annotated[int, Field(ge=2, le=1000, description="Equal-frequency buckets of a number.")] = 20
    max_buys: Annotated[int, Field(ge=1, le=50, description="Bought items kept of a history.")] = 50
    max_behaviours: Annotated[
        int, Field(ge=1, le=100, description="Clicks, carts and purchases kept of a history.")
    ] = 100


@dataclass(frozen=True)
class GateSettings(Section):
    """When a candidate may replace the incumbent."""

    min_requests: Annotated[Size, Field(description="Requests of day D that the verdict needs.")] = 100
    min_positives: Annotated[Size, Field(description="Positives of day D that the verdict needs.")] = 20
    max_auc_loss: Annotated[
        Share, Field(description="AUC the candidate may lie behind the incumbent, at the interval's lower end.")
    ] = 0.01
    over_popularity: Annotated[
        float,
        Field(ge=-1, le=1, description="AUC the candidate must lie above popularity (the point estimate counts)."),
    ] = 0.0
    max_log_loss_over_popularity: Annotated[
        float,
        Field(
            ge=-1,
            description="Share of popularity's log loss that the candidate may lie above it (the point estimate "
            "counts).",
        ),
    ] = 0.0
    max_log_loss_rise: Annotated[
        Weight,
        Field(
            description="Share of the incumbent's log loss the candidate may lie above it, at the interval's upper end."
        ),
    ] = 0.02
    max_calibration_error: Annotated[
        Weight, Field(description="Distance of predicted over actual conversions from 1 that is allowed.")
    ] = 0.3
    min_mature_positives: Annotated[
        Size,
        Field(
            description="Mature positives from which on calibration is judged on mature labels alone; with fewer "
            "all of day D's labels count as known at the cut."
        ),
    ] = 100
    bootstraps: Annotated[int, Field(ge=10, le=100_000, description="Resamples of requests behind an interval.")] = 200
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="Confidence of the intervals.")] = 0.95
