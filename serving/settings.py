"""Settings of serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, SecretStr

from features.settings import NO_SECRET, OptionalPath, Section


@dataclass(frozen=True)
class TritonSettings(Section):
    """How to reach Triton."""

    url: Annotated[str, Field(description="host:port of Triton's gRPC; empty: the local stack's own server.")] = ""
    repository: Annotated[
        OptionalPath, Field(description="Model repository; empty: triton/repository of the stack.")
    ] = None
    admin_key: Annotated[
        SecretStr, Field(description="Key of Triton's restricted model repository; from the environment only.")
    ] = NO_SECRET
    instances: Annotated[int, Field(ge=1, le=64, description="Processes of each version.")] = 1
    threads: Annotated[
        int, Field(ge=0, le=256, description="CPU threads of each process; 0: as many as torch wants.")
    ] = 1
    drain_s: Annotated[
        float,
        Field(ge=0, le=3600, description="Seconds a deployment waits for gateways to let go of what it replaced."),
    ] = 60.0


@dataclass(frozen=True)
class GatewaySettings(Section):
    """The ranking gateway."""

    host: Annotated[str, Field(description="Address the gateway listens on.")] = "127.0.0.1"
    timeout_ms: Annotated[int, Field(ge=1, le=60_000, description="Deadline of one request.")] = 1000
    max_candidates: Annotated[int, Field(ge=1, le=10_000, description="Candidates a request may have.")] = 1000
    list_length: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Items an answer shows and its impression logs, best first; 0: every candidate.",
        ),
    ] = 0
    young_slots: Annotated[
        int, Field(ge=0, le=1000, description="Places of a list reserved for items first listed within a day; 0: none.")
    ] = 0
    accept_client_time: Annotated[
        bool, Field(description="Take `time` from the request: for replays and simulations.")
    ] = False
    experiments: Annotated[
        OptionalPath,
        Field(description="File that maps arms to aliases; empty: experiments.toml in the stack's folder."),
    ] = None
    log_features: Annotated[bool, Field(description="Log the features seen with each impression.")] = True
