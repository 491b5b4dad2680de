"""Deployments with a stack's settings: what the steps `deploy` and `keep`, commands and the stack's start share."""

from __future__ import annotations

from features.errors import FreshrankError, UsageError
from features.layout import Layout
from freshrank.pipeline.bundles import BundleInfo
from freshrank.settings import Settings
from serving.deploy import Deployer, Report
from serving.state import ALIASES, CHAMPION, POPULARITY


class NotBlessedError(FreshrankError):
    """The gate has not let this bundle through."""

    exit_code, code = 3, "not_blessed"


def deployer(settings: Settings) -> Deployer:
    """The deployer of this stack's Triton."""
    from freshrank.stack import addresses
    from serving.export import Repository
    from serving.triton import TritonClient

    settings = addresses.resolve(settings)
    triton = settings.triton
    assert triton.repository is not None
    return Deployer(
        settings.layout,
        Repository(triton.repository, threads=triton.threads, instances=triton.instances),
        TritonClient(triton.url, triton.admin_key.get_secret_value()),
        request_timeout_s=settings.gateway.timeout_ms / 1000,
        drain_s=triton.drain_s,
    )


def deploy_bundle(settings: Settings, bundle: str, alias: str = "", *, unblessed: bool = False) -> Report:
    """Deploy a bundle.

    Args:
        settings: All settings.
        bundle: Its id.
        alias: `champion`, `challenger` or `popularity`; empty for what its model is for.
        unblessed: Take a champion without a blessing.

    Raises:
        UsageError: If there is no such alias.
        NotBlessedError: If a champion has no blessing.
    """
    check_alias(alias)
    info = BundleInfo.read(settings.layout, bundle)
    alias = alias or (POPULARITY if info.model == POPULARITY else CHAMPION)
    if alias == CHAMPION and not unblessed:
        require_blessing(settings.layout, bundle)
    return deployer(settings).deploy(bundle, alias, info.tokens(settings.layout))


def check_alias(alias: str) -> None:
    """Refuse what is no alias; empty is none in particular.

    Raises:
        UsageError: If there is no such alias.
    """
    if alias and alias not in ALIASES:
        raise UsageError("no such alias", field="--alias", value=alias, remedy=f"use one of: {', '.join(ALIASES)}")


def rollback(settings: Settings) -> Report:
    """Point champion to the bundle before it."""
    return deployer(settings).rollback()


def reconcile(settings: Settings) -> list[str]:
    """Make a restarted Triton serve what `serving.json` says.

    Returns:
        Models that had to be loaded.

    Raises:
        LockedError: If a deployment is at work; it will do as much itself.
    """
    layout = settings.layout
    return deployer(settings).reconcile(lambda bundle: BundleInfo.read(layout, bundle).tokens(layout))


def require_blessing(layout: Layout, bundle: str) -> None:
    """Refuse a bundle that the gate did not bless.

    Raises:
        NotBlessedError: If there is no blessing, or the gate refused.
        DataError: If the blessing is damaged.
    """
    from freshrank.pipeline.gate import Decision

    decision = Decision.on(layout, bundle)
    if decision is None or not decision.blessed:
        raise NotBlessedError(
            "the gate refused this bundle" if decision else "no gate has seen this bundle",
            field="bundle",
            value=bundle,
            remedy="run `freshrank gate`, or deploy with --unblessed",
        )
