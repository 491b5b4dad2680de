"""`freshrank versions`: every bundle that was given to Triton, and where it stands."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec
import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Print what is live, and every version with its state."""
    from freshrank import settings as all_settings
    from serving.state import ServingFile

    now = ServingFile(all_settings.load().layout).read()
    if as_json:
        print(json.dumps(msgspec.to_builtins(now)))
        return
    names: dict[str, list[str]] = {}
    for alias, bundle in now.aliases.items():
        names.setdefault(bundle, []).append(alias)
    if now.previous is not None:
        names.setdefault(now.previous, []).append("previous")
    for bundle, version in sorted(now.versions.items(), key=lambda pair: pair[1].version):
        rest = ", ".join(names.get(bundle, [])) or version.reason or ""
        print(f"{version.version:>4}  {version.state:<8}  {version.triton_model:<32}  {bundle:<32}  {rest}")
    print(f"versions: {len(now.versions)}, generation {now.generation}")
