"""`freshrank status`: how each server is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def command(as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False) -> None:
    """Say each server's state, address, memory and age; change nothing.

    Ends with 4 where a server of the stack that should work does not, with 5 where one that settings name elsewhere
    does not answer, with 2 where it refuses us.
    """
    from features.errors import FreshrankError, NotReadyError, UnreachableError, UsageError
    from freshrank import settings as all_settings
    from freshrank.stack.status import status

    rows = status(all_settings.load())
    bad = [row for row in rows if row.exit_code]
    total = round(sum(row.pss_mb for row in rows), 1)
    if as_json:
        shown = [asdict(row) for row in rows]
        print(json.dumps({"ok": not bad, "servers": shown, "pss_mb": total}))
    else:
        for row in rows:
            memory = f"{row.pss_mb:>8.1f} MiB {_age(row.age_s):>9}" if not row.external else f"{'external':>22}"
            said = "; ".join(text for text in (row.reason, row.remedy) if text)
            print(f"{row.name:<11} {row.state:<9} {memory}  {row.address}  {said}".rstrip())
        print(f"{'together':<11} {'':<9} {total:>8.1f} MiB")
    if bad:
        # one elsewhere comes first: our own often do not work because it does not
        kinds: tuple[type[FreshrankError], ...] = (UsageError, UnreachableError, NotReadyError)
        kind = next(kind for kind in kinds if any(row.exit_code == kind.exit_code for row in bad))
        what = ", ".join(f"{row.name} ({row.state})" for row in bad)
        remedy = next(row.remedy for row in bad if row.exit_code == kind.exit_code)
        raise kind(f"not every server works: {what}", remedy=remedy)


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
