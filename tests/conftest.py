"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack import Stack, own_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The tests' stack of real servers; `stack.need(...)` starts what a test wants."""
    with own_stack("session") as made:
        yield made
