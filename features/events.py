"""The events of every topic: their fields, what makes one valid, and how they are written as JSON.

An event is one JSON object; the topic's struct below is its schema, and `features/schemas/<topic>.json` is generated
from it. Fields that a struct does not know are passed over, so that producers may be ahead of us; a higher
`schema_version` is refused, because a field may then mean something else.

Times are RFC 3339 strings on the wire and int64 µs UTC in tables. Amounts are in the currency's minor unit (cents).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from features.errors import DataError, FreshrankError
from features.times import HOUR, parse_us

SCHEMA_VERSION = 1
NAMESPACE = uuid.UUID("6f0c9bd4-52d0-5f0e-9d6a-3f7a4c1f8e21")
LAST_US = 253_402_300_799_999_999  # the end of the year 9999
MAX_CLOCK_SKEW_US = HOUR  # how far an event may lie after the moment at which it was known

_RFC3339 = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
_AMOUNT_LIMIT = 10**15

EventId = Annotated[str, Meta(min_length=1, max_length=128)]
Id = Annotated[str, Meta(min_length=1, max_length=256)]
Time = Annotated[str, Meta(pattern=_RFC3339, extra_json_schema={"format": "date-time"})]
Version = Annotated[int, Meta(ge=1)]
Amount = Annotated[int, Meta(ge=0, le=_AMOUNT_LIMIT)]
Scalar = str | bool | int | float | None


class InvalidEvent(DataError):
    """A record that is no valid event; `str()` of it is the reason kept in the dead letters."""

    code = "invalid_event"


class Shown(Struct, frozen=True, omit_defaults=True):
    """One item of a shown list.

    Args:
        item_id: The item.
        position: Its place in the list, 0 first.
        price_minor: Its price when it was shown; None where it was unknown.
        score: What the ranker gave it.
        propensity: Probability with which the policy put it at this place.
    """

    item_id: Id
    position: Annotated[int, Meta(ge=0, le=100_000)]
    price_minor: Amount | None = None
    score: float | None = None
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all events have.

    Args:
        event_id: Names the event; a second event of the same name is a repetition and is dropped by readers.
        event_time: When it happened.
        schema_version: Version of this schema that the producer wrote.
    """

    topic: ClassVar[str]

    event_id: EventId
    event_time: Time
    schema_version: Version

    @property
    def event_time_us(self) -> int:
        """`event_time` in µs since 1970 UTC."""
        return parse_us(self.event_time)


class Impression(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A request and the list that was shown for it.

    Args:
        request_id: Names the request; `event_id` is `impression_id(request_id)`.
        user_id: Who asked.
        items: What was shown, at most 1,000 different items.
        context: What was known of the moment: `zone`, `hour`, `weekday`, `weather`, `payday`, ….
        experiments: Experiment name to arm.
        policy: What ordered the list, such as `uniform`, `popularity` or `model`.
        bundle_id: The bundle that scored it.
        feature_cutoff: Newest known time that the request's features could contain.
        features_seen: The feature values served with, as the gateway logs them.
    """

    topic: ClassVar[str] = "impressions"

    request_id: Id
    user_id: Id
    items: Annotated[list[Shown], Meta(min_length=1, max_length=1000)]
    context: dict[str, Scalar] = {}
    experiments: dict[str, str] = {}
    policy: str = ""
    bundle_id: str | None = None
    feature_cutoff: Time | None = None
    features_seen: dict[str, Any] | None = None


class Click(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A user opened an item, out of a request's list where `request_id` says so."""

    topic: ClassVar[str] = "clicks"

    user_id: Id
    item_id: Id
    request_id: Id | None = None


class Cart(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A user put an item into the cart."""

    topic: ClassVar[str] = "carts"

    user_id: Id
    item_id: Id
    request_id: Id | None = None


class Purchase(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A user bought an item.

    Args:
        quantity: How many.
        amount_minor: What was paid for all of them.
        currency: ISO 4217, such as `EUR`.
    """

    topic: ClassVar[str] = "purchases"

    user_id: Id
    item_id: Id
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)]
    amount_minor: Amount
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    request_id: Id | None = None


class Item(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A listing from this moment on, whole: it replaces what was known of the item.

    Args:
        item_id: The item; also the record's key.
        shop_id: Who sells it.
        price_minor: Its price.
        available: Whether it can be bought.
        brand_id: Its brand.
        category_id: Its category.
        title: Its title.
        description: Its description.
        image_uri: `blob:<sha256>`, `file:<path below content.image_root>`, or `https:`/`s3:` on an allow-listed host.
        weight_g: Weight of the package.
        attributes: What else the shop says of it: `zone`, `latitude`, `longitude`, `delivery_minutes`, …
    """

    topic: ClassVar[str] = "items"

    item_id: Id
    shop_id: Id
    price_minor: Amount
    available: bool
    brand_id: Id | None = None
    category_id: Id | None = None
    title: str | None = None
    description: str | None = None
    image_uri: Annotated[str, Meta(pattern="^(blob:[0-9a-f]{64}|file:.+|https://.+|s3://.+)$")] | None = None
    weight_g: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    attributes: dict[str, Scalar] = {}


class User(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A user's profile from this moment on, whole.

    Args:
        user_id: The user; also the record's key.
        profile: What is known of the user: `zone`, `latitude`, `longitude`, `household`, `income`, …
    """

    topic: ClassVar[str] = "users"

    user_id: Id
    profile: dict[str, Scalar] = {}


class Gone(Struct, frozen=True, kw_only=True):
    """A null value on a compacted topic: the item or user of this key no longer exists.

    Args:
        topic: `items` or `users`.
        key: The item or user.
        event_id: Made from topic, key and time, so that a repetition is recognised.
        time_us: When it became known, which is all we know of when it happened.
    """

    topic: str
    key: str
    event_id: str
    time_us: int


EVENTS: dict[str, type[Event]] = {kind.topic: kind for kind in (Impression, Click, Cart, Purchase, Item, User)}
COMPACTED = ("items", "users")

_DECODERS = {topic: msgspec.json.Decoder(kind) for topic, kind in EVENTS.items()}
_ENCODER = msgspec.json.Encoder()
_SAME: Mapping[str, str] = MappingProxyType({})


def impression_id(request_id: str) -> str:
    """The `event_id` of the one impression that a request can have.

    Example:
        >>> impression_id("r1") == impression_id("r1") != impression_id("r2")
        True
    """
    return str(uuid.uuid5(NAMESPACE, request_id))


def event_id(*parts: object) -> str:
    """An `event_id` made from what names the event, so that publishing it again repeats it.

    Args:
        parts: What names it: source, topic, user, item, time in µs, …

    Example:
        >>> event_id("purchases", "u1", 7) == event_id("purchases", "u1", 7)
        True
    """
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(map(str, parts))))


def encode(event: Event, names: Mapping[str, str] = _SAME) -> bytes:
    """The event as JSON, with fields in the struct's order.

    Args:
        event: The event.
        names: Our field names to the topic's, where they differ (`KafkaSettings.field_names`).
    """
    value = _ENCODER.encode(event)
    return rename(value, names) or value


def rename(value: bytes | None, names: Mapping[str, str]) -> bytes | None:
    """An event under our field names as one under the topic's; null stays null.

    Example:
        >>> rename(b'{"user_id":"u1"}', {"user_id": "uid"})
        b'{"uid":"u1"}'
    """
    if not names or value is None:
        return value
    return _ENCODER.encode({names.get(name, name): part for name, part in msgspec.json.decode(value).items()})


def decode(
    topic: str, key: bytes | None, value: bytes | None, known_time: int, names: Mapping[str, str] = _SAME
) -> Event | Gone:
    """The event of a Kafka record.

    Args:
        topic: Our name of the topic, not the broker's.
        key: The record's key.
        value: The record's value; None on a compacted topic means that the key is gone.
        known_time: The record's timestamp, µs UTC.
        names: Our field names to the topic's, where they differ (`KafkaSettings.field_names`).

    Returns:
        The event, or `Gone`.

    Raises:
        InvalidEvent: With the reason, if the record is no valid event of the topic.
    """
    if not 0 <= known_time <= LAST_US:
        raise InvalidEvent("the record's timestamp is none", field="timestamp", value=known_time // 1000)
    if value is None:
        return _gone(topic, key, known_time)
    try:
        event = _renamed(topic, value, names) if names else _DECODERS[topic].decode(value)
    except msgspec.MsgspecError as error:
        raise InvalidEvent(str(error)) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"not JSON in UTF-8: {type(error).__name__}") from None
    _check(event, key, known_time)
    return event


def _renamed(topic: str, value: bytes, names: Mapping[str, str]) -> Event:
    """An event whose topic has other field names than ours."""
    fields = msgspec.json.decode(value)
    if isinstance(fields, dict):
        theirs = {their: our for our, their in names.items()}
        fields = {theirs.get(name, name): part for name, part in fields.items() if name not in names or name in theirs}
    return msgspec.convert(fields, EVENTS[topic])


def _gone(topic: str, key: bytes | None, known_time: int) -> Gone:
    if topic not in COMPACTED:
        raise InvalidEvent("the record has no value", remedy=f"only {' and '.join(COMPACTED)} may have a null value")
    name = _text(key)
    return Gone(topic=topic, key=name, event_id=event_id("gone", topic, name, known_time), time_us=known_time)


def _text(key: bytes | None) -> str:
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        raise InvalidEvent("the record's key is not UTF-8", field="key", value=key) from None
    if not 1 <= len(text) <= 256:
        raise InvalidEvent("the record's key is empty or too long", field="key", value=text)
    return text


def _check(event: Event, key: bytes | None, known_time: int) -> None:
    """What a schema cannot say."""
    if event.schema_version > SCHEMA_VERSION:
        raise InvalidEvent(
            "the schema is newer than this program", field="schema_version", value=event.schema_version,
            remedy=f"this one reads up to {SCHEMA_VERSION}",
        )  # fmt: skip
    happened = _moment("event_time", event.event_time)
    if happened < 0:
        raise InvalidEvent("event_time lies before 1970", field="event_time", value=event.event_time)
    if happened > LAST_US:
        raise InvalidEvent("event_time lies after the year 9999", field="event_time", value=event.event_time)
    if happened - known_time > MAX_CLOCK_SKEW_US:
        raise InvalidEvent(
            "event_time lies more than an hour after the record's timestamp",
            field="event_time", value=event.event_time,
        )  # fmt: skip
    if isinstance(event, Impression):
        _check_impression(event)
    elif isinstance(event, Item | User):
        name = event.item_id if isinstance(event, Item) else event.user_id
        if key != name.encode():
            raise InvalidEvent("the record's key is not the event's", field="key", value=key, remedy=f"key by {name!r}")


def _check_impression(event: Impression) -> None:
    if event.event_id != impression_id(event.request_id):
        raise InvalidEvent(
            "event_id of an impression must be uuid5 of its request_id", field="event_id", value=event.event_id,
            remedy=f"uuid5(namespace {NAMESPACE}, request_id) is {impression_id(event.request_id)}",
        )  # fmt: skip
    if len({item.item_id for item in event.items}) < len(event.items):
        raise InvalidEvent("an item is shown twice in one list", field="request_id", value=event.request_id)
    if len({item.position for item in event.items}) < len(event.items):
        raise InvalidEvent("two items share a position", field="request_id", value=event.request_id)
    if event.feature_cutoff is not None:
        _moment("feature_cutoff", event.feature_cutoff)


def _moment(field: str, text: str) -> int:
    try:
        return parse_us(text)
    except (FreshrankError, OverflowError):
        raise InvalidEvent("no such time", field=field, value=text) from None


def json_schema(topic: str) -> dict[str, object]:
    """JSON Schema (2020-12) of a topic's values, for producers in other languages."""
    (reference,), components = msgspec.json.schema_components([EVENTS[topic]], ref_template="#/$defs/{name}")
    name = reference["$ref"].rsplit("/", 1)[1]
    schema = dict(components.pop(name))
    schema.pop("title", None)
    for part in (schema, *components.values()):
        part["description"] = part["description"].split("\n", 1)[0]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{topic}, version {SCHEMA_VERSION}",
        **schema,
        "$defs": components,
    }
