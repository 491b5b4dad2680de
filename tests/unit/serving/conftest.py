"""Bundles made once for all tests of serving."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.layout import Layout
from features.store.registry import OnlineStore
from tests.serving.bundles import make_bundle
from tests.serving.world import fill


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one`, `two`; `other` of another schema; `wrong`, whose probes are off; `broken`, that cannot load."""
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(folder, "one", seed=1, probes=2)
    make_bundle(folder, "two", seed=2, probes=2)
    make_bundle(folder, "other", seed=3, probes=2, user_field="u_income")
    make_bundle(folder, "wrong", seed=4, probes=2, wrong=0.001)
    make_bundle(folder, "broken", seed=5, probes=2, recipe={"width": 16})
    return folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, OnlineStore]:
    """A shop with features online; who makes something live in it takes that away again."""
    root = tmp_path_factory.mktemp("shop")
    online = OnlineStore(sqlite=root / "online.db")
    return fill(root, online), online
