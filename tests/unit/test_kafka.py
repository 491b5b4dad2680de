"""What the Kafka client's failures mean to the user, and that every environment reads every topic."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest
from kafka import codec
from kafka import errors as kafka_errors
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from features.configuration import read
from features.errors import FreshrankError, UnreachableError, UsageError
from features.kafka import CODECS, errors
from features.settings import KafkaSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = read(KafkaSettings, {"bootstrap_servers": "127.0.0.1:1"})
NUMBERS = {"snappy": 2, "lz4": 3, "zstd": 4}  # in a batch's attributes


def failed_with(error: Exception) -> FreshrankError:
    with pytest.raises(FreshrankError) as caught, errors(SETTINGS):
        raise error
    return caught.value


@pytest.mark.parametrize("environment", [".venv", ".envs/gateway"])
def test_every_environment_that_talks_to_kafka_has_every_codec_and_the_fast_checksum(environment: str) -> None:
    check = (
        "from kafka import codec; from kafka.record import util; "
        "print(codec.has_gzip(), codec.has_snappy(), codec.has_lz4(), codec.has_zstd(), util._crc32c.__module__)"
    )
    python = ROOT / environment / "bin" / "python"
    ended = subprocess.run([python, "-I", "-c", check], capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    has, checksum = ended.stdout.split()[:4], ended.stdout.split()[4]
    assert has == ["True"] * 4
    assert not checksum.startswith("kafka"), "checksums are made in Python"


@pytest.mark.parametrize("name", CODECS)
def test_a_missing_codec_is_named_and_no_unreachable_server(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=NUMBERS[name], is_transactional=False, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=1 << 20,
    )  # fmt: skip
    builder.append(0, timestamp=1, key=None, value=b"x" * 1000, headers=[])
    batch = bytes(builder.build())
    assert [record.value for record in DefaultRecordBatch(batch)] == [b"x" * 1000]
    monkeypatch.setattr(codec, {"zstd": "zstd"}.get(name, name), None)
    with (
        pytest.raises(UsageError, match=f"compression.type = '{name}'; install {CODECS[name]} ") as caught,
        errors(SETTINGS),
    ):
        list(DefaultRecordBatch(batch))
    assert caught.value.exit_code == 2


def test_what_one_client_was_refused_says_nothing_of_another() -> None:
    logging.getLogger("kafka.net.manager").warning("Bootstrap connection failed: SaslAuthenticationFailedError")
    assert isinstance(failed_with(kafka_errors.KafkaTimeoutError("Unable to bootstrap")), UnreachableError)


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (kafka_errors.SaslAuthenticationFailedError("no"), "kafka.sasl_username"),
        (kafka_errors.TopicAuthorizationFailedError("clicks"), "kafka.sasl_username"),
        (kafka_errors.UnsupportedSaslMechanismError("no"), "kafka.sasl_mechanism"),
        (kafka_errors.MessageSizeTooLargeError("no"), "max.message.bytes"),
        (kafka_errors.RecordListTooLargeError("no"), "max.message.bytes"),
        (kafka_errors.UnsupportedCodecError("Unrecognized compression type: 7"), None),
    ],
)
def test_what_trying_again_does_not_mend_is_a_matter_of_settings(error: Exception, field: str | None) -> None:
    told = failed_with(error)
    assert (type(told), told.field) == (UsageError, field)
