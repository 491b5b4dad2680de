"""Settings of serving."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from features.settings import Section


class TritonSettings(Section):
    """How to reach Triton."""

    url: str = Field("", description="host:port of Triton's gRPC; empty: the local stack's own server.")
    repository: Path | None = Field(None, description="Model repository; empty: triton/repository of the stack.")
    admin_key: SecretStr = Field(
        SecretStr(""), description="Key of Triton's restricted model repository; from the environment only."
    )
    instances: int = Field(1, ge=1, le=64, description="Processes of each version.")
    threads: int = Field(1, ge=0, le=256, description="CPU threads of each process; 0: as many as torch wants.")
    drain_s: float = Field(
        60.0, ge=0, le=3600, description="Seconds a deployment waits for gateways to let go of what it replaced."
    )


class GatewaySettings(Section):
    """The ranking gateway."""

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    timeout_ms: int = Field(1000, ge=1, le=60_000, description="Deadline of one request.")
    max_candidates: int = Field(1000, ge=1, le=10_000, description="Candidates a request may have.")
    list_length: int = Field(
        0, ge=0, le=10_000, description="Items an answer shows and its impression logs, best first; 0: every candidate."
    )
    young_slots: int = Field(
        0, ge=0, le=1000, description="Places of a list reserved for items first listed within a day; 0: none."
    )
    accept_client_time: bool = Field(False, description="Take `time` from the request: for replays and simulations.")
    experiments: Path | None = Field(
        None, description="File that maps arms to aliases; empty: experiments.toml in the stack's folder."
    )
    log_features: bool = Field(True, description="Log the features seen with each impression.")
