"""Deployments with the settings of this stack: what the commands and the stack's start share."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from features.errors import DataError, FreshrankError, NotReadyError, UsageError
from features.layout import Layout
from freshrank.settings import Settings, load
from serving.deploy import Deployer, Report
from serving.state import ALIASES, CHAMPION, POPULARITY


class NotBlessedError(FreshrankError):
    """The gate has not let this bundle through."""

    exit_code, code = 3, "not_blessed"


def deployer(settings: Settings) -> Deployer:
    """The deployer of this stack's Triton."""
    from freshrank.stack import addresses
    from serving.export import Repository
    from serving.triton import Triton

    settings = addresses.resolve(settings)
    triton = settings.triton
    assert triton.repository is not None
    return Deployer(
        settings.layout,
        Repository(triton.repository, threads=triton.threads, instances=triton.instances),
        Triton(triton.url, triton.admin_key.get_secret_value()),
        request_timeout_s=settings.gateway.timeout_ms / 1000,
        drain_s=triton.drain_s,
    )


def deploy(bundle: str, alias: str = "", *, unblessed: bool = False) -> Report:
    """Deploy a bundle.

    Args:
        bundle: Its id.
        alias: `champion`, `challenger` or `popularity`; empty for what its model is for.
        unblessed: Take a champion without a blessing.

    Raises:
        UsageError: If there is no such alias.
        NotBlessedError: If a champion has no blessing.
    """
    settings = load()
    if alias and alias not in ALIASES:
        raise UsageError("no such alias", field="--alias", value=alias, remedy=f"use one of: {', '.join(ALIASES)}")
    info = bundle_info(settings.layout, bundle)
    alias = alias or (POPULARITY if info.get("model") == POPULARITY else CHAMPION)
    if alias == CHAMPION and not unblessed:
        require_blessing(settings.layout, bundle)
    return deployer(settings).deploy(bundle, alias, tokens_folder(settings.layout, info))


def deploy_day(day: dt.date, alias: str = "", *, unblessed: bool = False) -> Report:
    """Deploy what the run of a day made: its popularity, and its bundle.

    Args:
        day: The run's day D.
        alias: Where the bundle goes; `popularity` deploys the day's popularity alone, as when the gate has refused.
        unblessed: Take a champion without a blessing.

    Returns:
        What the last of the deployments did.
    """
    from freshrank.retrain import note

    made = note(load().layout, day, "bundle")
    popular = deploy(str(made["popularity"]), POPULARITY)
    return popular if alias == POPULARITY else deploy(str(made["bundle"]), alias, unblessed=unblessed)


def rollback() -> Report:
    """Point champion to the bundle before it."""
    return deployer(load()).rollback()


def reconcile(settings: Settings) -> list[str]:
    """Make a restarted Triton serve what `serving.json` says.

    Returns:
        Models that had to be loaded.

    Raises:
        LockedError: If a deployment is at work; it will do as much itself.
    """
    return deployer(settings).reconcile(
        lambda bundle: tokens_folder(settings.layout, bundle_info(settings.layout, bundle))
    )


def bundle_info(layout: Layout, bundle: str) -> dict[str, Any]:
    """`bundle.json`.

    Raises:
        NotReadyError: If there is no such bundle.
        DataError: If it cannot be read.
    """
    path = layout.bundle(bundle) / "bundle.json"
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotReadyError(
            "no such bundle", field="bundle", value=bundle, remedy="run `freshrank bundle` first"
        ) from None
    except ValueError as error:
        raise DataError(
            "the bundle is corrupt", field="file", value=f"{bundle}/bundle.json", remedy="make the bundle again"
        ) from error
    return info


def tokens_folder(layout: Layout, info: dict[str, Any]) -> Path | None:
    """The token store that fills in listings newer than the bundle; None for a bundle without content."""
    encoder = info.get("encoder")
    return layout.tokens(encoder) if encoder else None


def require_blessing(layout: Layout, bundle: str) -> None:
    """Refuse a bundle that the gate did not bless.

    Raises:
        NotBlessedError: If there is no blessing, or the gate refused.
    """
    path = layout.bundles / f"{bundle}.blessing.json"
    verdict = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if verdict is None or not verdict.get("blessed"):
        raise NotBlessedError(
            "the gate refused this bundle" if verdict else "no gate has seen this bundle",
            field="bundle",
            value=bundle,
            remedy="run `freshrank gate`, or deploy with --unblessed",
        )
