"""Every setting of Freshrank by section: the hall's own, composed with the other rooms'."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from features.configuration import Rate, Share, Size
from features.layout import Layout
from features.settings import (
    ContentSettings,
    FeatureSettings,
    KafkaSettings,
    LabelSettings,
    RedisSettings,
    Section,
    WindowSettings,
)
from serving.settings import GatewaySettings, TritonSettings
from trainer.settings import GateSettings, TrainSettings


@dataclass(frozen=True)
class StackSettings(Section):
    """The local stack."""

    dir: Annotated[
        Path,
        Field(description="Folder of all state; relative to the settings file; without one, to the checkout or here."),
    ] = Path(".freshrank")
    port_base: Annotated[int, Field(ge=1024, le=65000, description="First of the 20 ports the local stack uses.")] = (
        17000
    )


@dataclass(frozen=True)
class AirflowSettings(Section):
    """Airflow."""

    schedule: Annotated[
        str,
        StringConstraints(strip_whitespace=True),
        Field(description="Cron of the daily retrain, UTC; empty: runs only when triggered."),
    ] = "0 2 * * *"


@dataclass(frozen=True)
class ParitySettings(Section):
    """When serving agrees with training (`freshrank parity`)."""

    max_score_difference: Annotated[
        Rate, Field(description="Logits that a served score may lie from its bundle's own of the same features.")
    ] = 1e-4
    min_equal_share: Annotated[
        Share, Field(description="Share of the features seen that must equal the point-in-time rebuild.")
    ] = 1.0
    requests: Annotated[Size, Field(description="Requests of a day scored again, at most, of each bundle.")] = 400


@dataclass(frozen=True)
class Settings(Section):
    """Every setting of Freshrank, by section."""

    stack: StackSettings = field(default_factory=StackSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    triton: TritonSettings = field(default_factory=TritonSettings)
    airflow: AirflowSettings = field(default_factory=AirflowSettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    content: ContentSettings = field(default_factory=ContentSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    parity: ParitySettings = field(default_factory=ParitySettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        return Layout(self.stack.dir)
