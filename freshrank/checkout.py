"""The checkout, where this code runs from one.

An installed package has none: what it reads beside its own code comes through `importlib.resources`, and settings,
state and reports lie in the current folder or where settings say. The servers of the local stack, which the set-up
brings, are a checkout's alone.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from features.errors import UsageError

_HERE = Path(__file__).resolve().parent.parent


def find_checkout() -> Path | None:
    """The checkout that this code is imported from, or nothing where it was installed."""
    return _HERE if (_HERE / "pyproject.toml").is_file() else None


def need_checkout(what: str, instead: str = "") -> Path:
    """The checkout.

    Args:
        what: What needs it, for the error.
        instead: What an installed package can do instead, for the remedy.

    Raises:
        UsageError: If there is none.
    """
    found = find_checkout()
    if found is None:
        here = "run it in a checkout, after `make setup`"
        raise UsageError(
            f"{what} needs a checkout, and this is an installed package",
            field="package", value=str(_HERE / "freshrank"),
            remedy=f"{instead}, or {here}" if instead else here,
        )  # fmt: skip
    return found


def version() -> str:
    """The version: a checkout's own, which may be newer than what was installed from it, or the installed package's."""
    found = find_checkout()
    if found is None:
        return importlib.metadata.version("freshrank")
    import tomllib

    return str(tomllib.loads((found / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
