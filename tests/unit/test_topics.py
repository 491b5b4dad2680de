"""Names and settings of topics."""

from __future__ import annotations

import pytest

from features.configuration import read
from features.errors import UnreachableError, UsageError
from features.kafka import MAX_MESSAGE_BYTES, client_config
from features.settings import KafkaSettings
from features.topics import broker_name, ensure, names, problems, wanted_configs


def kafka(**values: object) -> KafkaSettings:
    return read(KafkaSettings, values)


def test_every_topic_has_dead_letters() -> None:
    events = [name for name in names() if not name.endswith(".dead")]
    assert names() == [*events, *(f"{name}.dead" for name in events)]
    assert len(events) == 6


def test_names_are_mapped_and_prefixed() -> None:
    settings = kafka(topic_prefix="shop.", topics={"carts": "basket-adds"})
    assert broker_name(settings, "carts") == "shop.basket-adds"
    assert broker_name(settings, "carts.dead") == "shop.basket-adds.dead"
    assert broker_name(settings, "items") == "shop.items"


@pytest.mark.parametrize("name", names())
def test_time_is_the_events_own_and_nothing_is_deleted_for_its_age(name: str) -> None:
    configs = wanted_configs(name)
    assert configs["retention.ms"] == "-1"
    assert configs["message.timestamp.type"] == "CreateTime"
    assert int(configs["message.timestamp.after.max.ms"]) == 2**63 - 1
    compacted = name in ("items", "users") or name.endswith(".dead")
    assert configs["cleanup.policy"] == ("compact" if compacted else "delete")


def test_sasl_and_tls_come_from_the_settings() -> None:
    config = client_config(
        kafka(
            bootstrap_servers="a:1, b:2", security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512",
            sasl_username="u", sasl_password="p", ssl_cafile="/ca.pem",
        )
    )  # fmt: skip
    assert config["bootstrap_servers"] == ["a:1", "b:2"]
    assert config["security_protocol"] == "SASL_SSL"
    assert (config["sasl_mechanism"], config["sasl_plain_username"], config["sasl_plain_password"]) == (
        "SCRAM-SHA-512", "u", "p",
    )  # fmt: skip
    assert config["ssl_cafile"] == "/ca.pem"


@pytest.mark.parametrize("name", names())
def test_settings_that_may_not_be_read_are_not_called_right(name: str) -> None:
    (problem,) = problems(name, {}, {})
    assert "DescribeConfigs" in problem
    assert not problems(name, wanted_configs(name), {"max.message.bytes": "1048588"})


def test_a_limit_below_what_dead_letters_need_is_named_with_what_they_need() -> None:
    configs = wanted_configs("clicks.dead") | {"max.message.bytes": "1048588"}
    (problem,) = problems("clicks.dead", configs, {"max.message.bytes": "1048588"})
    assert "max.message.bytes is 1048588" in problem
    assert problem.endswith(f"use {MAX_MESSAGE_BYTES}")
    assert not problems("clicks.dead", configs, {"max.message.bytes": "200000"})  # what it keeps is small
    assert not problems("clicks", wanted_configs("clicks") | {"max.message.bytes": "1000"}, {})


@pytest.mark.parametrize("missing", ["sasl_mechanism", "sasl_username", "sasl_password"])
def test_half_a_login_is_refused(missing: str) -> None:
    values = {"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}
    del values[missing]
    with pytest.raises(UsageError, match=f"kafka.{missing}"):
        client_config(kafka(bootstrap_servers="a:1", security_protocol="SASL_SSL", **values))


@pytest.mark.parametrize("servers", ["nonsense", "host:port", ":9092"])
def test_an_address_that_is_none_is_a_usage_error(servers: str) -> None:
    with pytest.raises(UsageError, match="write host:port"):
        ensure(kafka(bootstrap_servers=servers))


def test_a_closed_port_is_unreachable_at_once() -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        ensure(kafka(bootstrap_servers="127.0.0.1:1"))
