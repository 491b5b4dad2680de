"""What an installation lacks: the extra that brings a module which cannot be imported."""

from __future__ import annotations

import importlib.metadata
import re

from features.errors import UsageError

# module → package, where they differ by more than a dash
_NAMES = {"PIL": "pillow", "fbgemm_gpu": "fbgemm-gpu-cpu", "sklearn": "scikit-learn"}
_DECLARED = re.compile(r"(?P<package>[\w.-]+).*extra == ['\"](?P<extra>[\w-]+)['\"]")


def lacking(error: ModuleNotFoundError) -> UsageError | None:
    """The error for a user whose installation lacks an extra.

    Args:
        error: What the import raised.

    Returns:
        The error that names the extra; nothing where no extra of ours brings the module, which is then a bug.
    """
    module = (error.name or "").partition(".")[0]
    package = _NAMES.get(module, module.replace("_", "-"))
    try:
        declared = importlib.metadata.requires("freshrank") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    rows = filter(None, map(_DECLARED.match, declared))
    extras = [f"freshrank[{row['extra']}]" for row in rows if row["package"].lower() == package]
    if not extras:
        return None
    return UsageError(
        "this installation lacks what the command needs", field="package", value=package,
        remedy=f"install {' or '.join(extras)}; in a checkout, run `make setup`",
    )  # fmt: skip
