"""No name from outside leaves the stack's folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import UsageError
from features.layout import Layout

LAYOUT = Layout(Path("/stack"))


@given(st.text())
def test_a_name_stays_below_the_folder_or_is_refused(name: str) -> None:
    try:
        path = LAYOUT.bundle(name)
    except UsageError:
        return
    assert path.parent == LAYOUT.bundles
    assert path.resolve().is_relative_to(LAYOUT.bundles)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "-x", ".hidden", "a\n"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="bundle"):
        LAYOUT.bundle(name)


def test_blobs_go_by_hash_only() -> None:
    assert LAYOUT.blob("ab" + "0" * 62) == Path("/stack/blobs/ab/ab" + "0" * 62)
    with pytest.raises(UsageError):
        LAYOUT.blob("../../etc/passwd")
