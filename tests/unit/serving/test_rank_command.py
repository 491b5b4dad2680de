"""`freshrank rank`: ids go out and come back as they are, and whatever answers is told from a gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from freshrank import cli
from freshrank.stack import addresses
from tests.serving.http_gateway import PreparedGateway, serve

ODD = ["a, b", "蘋果/🥛", 'the "big" one', "ä ö", "x" * 256, "-- --", "[1]", " "]


def listed(items: list[str]) -> dict[str, Any]:
    """A gateway's answer with these items."""
    return {
        "request_id": "r", "bundle_id": "b", "triton_version": 1, "experiments": {}, "fallback": None,
        "unknown_items": items[:1],
        "items": [{"item_id": item, "position": place, "score": 0.5} for place, item in enumerate(items)],
    }  # fmt: skip


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[PreparedGateway]:
    """What stands at the gateway's address."""
    with serve() as prepared:
        monkeypatch.setattr(addresses, "gateway_url", lambda _: prepared.url)
        yield prepared


def rank(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `freshrank rank`; its exit code."""
    monkeypatch.setattr("sys.argv", ["freshrank", "rank", "--user", "ü, 1", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_any_id_is_asked_for_and_shown(
    gateway: PreparedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.answer(200, listed(ODD))
    words = [f"--candidate={item}" for item in ODD]
    assert rank(monkeypatch, "--candidates", "p,q", *words, "--context", "note=1e999") == 0
    assert gateway.asked == [{"user_id": "ü, 1", "candidates": ["p", "q", *ODD], "context": {"note": "1e999"}}]
    lines = capsys.readouterr().out.split("\n")
    for line, item in zip(lines, ODD, strict=False):
        assert line.endswith(item + ("  (unknown)" if item == ODD[0] else ""))
    assert rank(monkeypatch, *words, "--json") == 0
    assert [item["item_id"] for item in json.loads(capsys.readouterr().out)["items"]] == ODD


def test_an_id_cannot_break_the_table(
    gateway: PreparedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.answer(200, listed(["a\n   1  +9.0000  b", "\x1b[2J", "\u2028"]))
    assert rank(monkeypatch, "--candidates", "a") == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4 and "a\\n   1" in out and "\\x1b[2J" in out and "\\u2028" in out


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (422, {"error": {"code": "invalid", "field": "user_id", "value": "", "remedy": "name one"}}, 3, "user_id"),
        (503, {"error": {"code": "not_ready", "field": None, "value": None, "remedy": "wait"}}, 5, "not_ready"),
        (500, {"error": {"code": "bug", "field": None, "value": None, "remedy": "see the log"}}, 1, "bug"),
        (200, b"<html>Welcome</html>", 5, "something else, with 200"),
        (502, b"<html>Bad gateway</html>", 5, "something else, with 502"),
        (404, {"detail": "Not Found"}, 5, "something else, with 404"),
        (403, [], 5, "something else, with 403"),
        (200, {"status": "ok"}, 5, "something else, with 200"),
        (200, b"\xff", 5, "something else, with 200"),
    ],
)
def test_what_is_no_list_is_one_line(
    gateway: PreparedGateway,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: Any,
    code: int,
    said: str,
) -> None:
    gateway.answer(status, body)
    assert rank(monkeypatch, "--candidates", "a") == code
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert said in line and captured.out == ""


@pytest.mark.parametrize("words", [[], ["--candidate", "\udcff"], ["--candidates", "a", "--context", "zone"]])
def test_arguments_that_cannot_be_sent_are_named(
    gateway: PreparedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert rank(monkeypatch, *words) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not gateway.asked
