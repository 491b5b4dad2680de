"""The ranking gateway, in its own environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.errors import NotReadyError
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

    def probe(self, settings: Settings) -> None:
        """Ask `/healthz`."""
        import httpx

        try:
            answer = httpx.get(self.address(settings) + "/healthz", timeout=5, trust_env=False)
        except httpx.HTTPError as error:
            raise NotYet(str(error)) from error
        if answer.status_code != 200:
            raise NotYet(f"/healthz answers {answer.status_code}: {answer.text[:200]}")
