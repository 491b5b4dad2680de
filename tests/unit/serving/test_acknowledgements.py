"""Gateways' word on what they serve by: who has it, who has not, who is silent, and nobody is passed over."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from features.layout import Layout
from serving.acknowledgements import FORGOTTEN_S, Acknowledgement, forget_dead, gateways_at, gateways_folder


def silent_for(layout: Layout, name: str, seconds: float) -> int:
    """Make a gateway's word so old; the moment, µs."""
    at = time.time_ns() // 1000 * 1000 - int(seconds * 1e9)
    os.utime(gateways_folder(layout) / f"{name}.json", ns=(at, at))
    return at // 1000


def test_without_gateways_nobody_is_behind(tmp_path: Path) -> None:
    found = gateways_at(Layout(tmp_path), 3)
    assert (found.acknowledged, found.behind, dict(found.silent)) == ((), (), {})


def test_each_gateway_is_named_once_by_where_it_stands(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for name, generation in (("at", 5), ("later", 6), ("earlier", 4), ("new", -1), ("dead", 4), ("dead-at", 5)):
        Acknowledgement(layout, name).say(generation)
    heard = silent_for(layout, "dead", 31)
    silent_for(layout, "dead-at", 31)
    silent_for(layout, "earlier", 29)
    found = gateways_at(layout, 5)
    assert found.acknowledged == ("at", "dead-at", "later")
    assert found.behind == ("earlier", "new")
    assert dict(found.silent) == {"dead": heard}
    assert gateways_at(layout, 5, lease_s=60).behind == ("dead", "earlier", "new")


@pytest.mark.parametrize("word", [b"", b"{", b"\xff", b"{}", b'{"generation": "5"}', b"[]", b'{"generation": 5.5}'])
def test_a_word_that_cannot_be_read_is_no_acknowledgement(tmp_path: Path, word: bytes) -> None:
    layout = Layout(tmp_path)
    Acknowledgement(layout, "garbled").say(5)
    (gateways_folder(layout) / "garbled.json").write_bytes(word)
    assert gateways_at(layout, 5).behind == ("garbled",)
    heard = silent_for(layout, "garbled", 31)
    assert dict(gateways_at(layout, 5).silent) == {"garbled": heard}


def test_a_gateway_is_heard_of_each_time_it_speaks(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    gateway = Acknowledgement(layout, "gateway")
    gateway.say(4)
    silent_for(layout, "gateway", 1000)
    gateway.say(4)
    assert gateways_at(layout, 5).behind == ("gateway",)
    gateway.leave()
    assert gateways_at(layout, 5).behind == ()


def test_the_dead_of_this_machine_are_forgotten_and_nobody_else(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    child = subprocess.Popen(["true"])
    child.wait()
    for name in ("dead", "just-died", "suspended", "elsewhere", "long-ago"):
        Acknowledgement(layout, name).say(4)
    for name in ("dead", "just-died", "elsewhere", "long-ago"):
        path = gateways_folder(layout) / f"{name}.json"
        text = path.read_text(encoding="utf-8").replace(f'"pid":{os.getpid()}', f'"pid":{child.pid}')
        if name in ("elsewhere", "long-ago"):
            text = text.replace('"host":"', '"host":"not-')
        path.write_text(text, encoding="utf-8")
    for name in ("dead", "suspended", "elsewhere"):
        silent_for(layout, name, 3600)
    silent_for(layout, "long-ago", FORGOTTEN_S + 1)
    assert forget_dead(layout) == ["dead", "long-ago"]
    assert set(gateways_at(layout, 5).silent) == {"suspended", "elsewhere"}
    assert gateways_at(layout, 5).behind == ("just-died",)
