"""The ranking gateway, in its own environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.encoded import JsonObject
from features.errors import NotReadyError
from features.proxies import trust_env
from freshrank.stack import addresses
from freshrank.stack.server import NotYet, Program, Server, project_root

if TYPE_CHECKING:
    from freshrank.settings import Settings


class Gateway(Server):
    """Our own web application under uvicorn."""

    name = "gateway"

    def address(self, settings: Settings) -> str:
        """Its URL."""
        return addresses.gateway_url(settings)

    def ports(self, settings: Settings) -> tuple[int, ...]:
        """One."""
        return (addresses.port(settings, addresses.GATEWAY),)

    def programs(self, settings: Settings) -> tuple[Program, ...]:  # noqa: ARG002
        """One process."""
        python = project_root() / ".envs" / "gateway" / "bin" / "python"
        return (Program("gateway", (str(python), "-m", "freshrank.stack.gateway")),)

    def prepare(self, settings: Settings) -> None:  # noqa: ARG002
        """Check that its environment is there."""
        if not (project_root() / ".envs" / "gateway" / "bin" / "python").exists():
            raise NotReadyError("the gateway's environment is missing", remedy="run `make setup`")

    def look(self, settings: Settings) -> str:
        """Ask `/healthz`, also for what the gateway cannot follow."""
        health = self._health(settings)
        behind = dict(health.get("behind") or {})
        if not health.get("aliases"):
            behind.pop("features", None)  # nothing is live yet that could need them
        if behind:
            raise NotYet(_told(behind))
        return _told(dict(health.get("degraded") or {}))

    def probe(self, settings: Settings) -> None:
        """Ask `/healthz`: what it cannot follow is not its start's concern."""
        self._health(settings)

    def _health(self, settings: Settings) -> JsonObject:
        import httpx

        url = self.address(settings)
        try:
            answer = httpx.get(f"{url}/healthz", timeout=5, trust_env=trust_env(url))
            if answer.status_code != 200:
                raise NotYet(f"/healthz answers {answer.status_code}: {answer.text[:200]}")
            return dict(answer.json())
        except (httpx.HTTPError, ValueError) as error:
            raise NotYet(f"{error}") from error


def _told(troubles: dict[str, dict[str, str]]) -> str:
    return "; ".join(f"{part}: {trouble.get('what', '')}" for part, trouble in troubles.items())
