"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.loop import Loop, live
from tests.stack import Stack, free_ports, own_stack

# More examples than there is time for in `make test`: pytest --hypothesis-profile=thorough tests/property
settings.register_profile("thorough", max_examples=200, deadline=None)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The tests' stack of real servers; `stack.need(...)` starts what a test wants."""
    with own_stack("session") as made:
        yield made


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A small city that went once round the loop."""
    return live(tmp_path_factory.mktemp("loop"), free_ports())
