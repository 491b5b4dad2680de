"""A day is lived against the gateway: users ask for lists, act on what they get, and everything goes to Kafka.

The gateway publishes impressions; this side publishes what follows from them. Simulated time never runs backwards: what
happened before a request is published before the request is sent, so that the log reads like that day's own.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from features.encoded import JsonObject
from features.errors import UnreachableError
from features.proxies import trust_env
from features.record import Record
from features.times import format_us
from freshrank.demo.plan import CHAMPION_ARM, EXPERIMENT
from freshrank.sources import Asking


@dataclass(frozen=True)
class Answered:
    """One ranked request as the asker saw it.

    Args:
        request_id: Its id.
        user_id: Who asked.
        time_us: Simulated time.
        wall_s: Seconds since the live phase began when the answer was there.
        latency_ms: How long the answer took.
        status: HTTP status; 0 where there was no answer.
        bundle_id: What ranked it.
        triton_version: Version that ranked it.
        fallback: `popularity` where the model could not answer.
        experiments: Experiment → arm.
        items: Item ids, first first.
        scores: Their scores.
        clicks: Items clicked.
        purchases: Item → amount paid, minor units.
    """

    request_id: str
    user_id: str
    time_us: int
    wall_s: float
    latency_ms: float
    status: int
    bundle_id: str = ""
    triton_version: int | None = None
    fallback: str | None = None
    experiments: dict[str, str] = field(default_factory=dict)
    items: tuple[str, ...] = ()
    scores: tuple[float | None, ...] = ()
    clicks: tuple[str, ...] = ()
    purchases: dict[str, int] = field(default_factory=dict)


class DemoTraffic:
    """Asks, answers, publishes.

    Args:
        url: The gateway's address.
        answer: Called with the request and the response's body; returns what the shopper then does, as events.
        publish: Sends events to Kafka.
        log: File of JSON lines, one an answered request.
        timeout_s: Deadline of one request.
    """

    def __init__(
        self,
        url: str,
        answer: Callable[[Any, JsonObject], Iterable[Record]],
        publish: Callable[[Sequence[Record]], None],
        log: Path,
        timeout_s: float = 10.0,
    ) -> None:
        import httpx

        self._client = httpx.Client(base_url=url, timeout=timeout_s, trust_env=trust_env(url))
        self._answer, self._publish = answer, publish
        self.log = log
        self._due: list[tuple[int, int, Record]] = []
        self._order = itertools.count()
        self._began = time.monotonic()
        self.pace_s = 0.0  # seconds between two requests
        self.versions: list[int] = []  # version behind each list of the champion's arm, in order

    def schedule(self, events: Iterable[Record]) -> None:
        """Events to publish when their time has come."""
        for event in events:
            heapq.heappush(self._due, (event.time_us, next(self._order), event))

    def publish_until(self, time_us: int) -> int:
        """Publish what is due before a moment.

        Args:
            time_us: Simulated time.

        Returns:
            Number of events published.
        """
        due = []
        while self._due and self._due[0][0] < time_us:
            due.append(heapq.heappop(self._due)[2])
        if due:
            self._publish(due)
        return len(due)

    def run(self, requests: Iterable[Asking], *, stop: threading.Event | None = None) -> Iterator[Answered]:
        """Send requests in the order of their times.

        Args:
            requests: The requests.
            stop: Ends the run early when set; between two requests it waits for `pace_s`.

        Yields:
            Each request as answered; failures too, with their status.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            for request in requests:
                if stop is not None and stop.is_set():
                    return
                self.publish_until(request.time_us)
                answered = self._ask(request)
                log.write(json.dumps(asdict(answered)) + "\n")
                yield answered
                if answered.triton_version is not None and answered.experiments.get(EXPERIMENT) == CHAMPION_ARM:
                    self.versions.append(answered.triton_version)
                if self.pace_s and stop is not None:
                    stop.wait(self.pace_s)

    def preview(self, request: Asking, arm: str) -> list[str]:
        """The list that an arm would give, as item ids; nothing is logged and nobody sees it.

        Args:
            request: The request.
            arm: An arm of the active experiment.
        """
        response = self._client.post("/rank", json=_body(request) | {"preview": arm})
        response.raise_for_status()
        return [str(item["item_id"]) for item in response.json()["items"]]

    def _ask(self, request: Asking) -> Answered:
        import httpx

        body = _body(request) | {"request_id": request.request_id}
        began = time.monotonic()
        try:
            response = self._client.post("/rank", json=body)
        except httpx.HTTPError:
            return self._record(request, began, 0)
        if response.status_code != 200:
            return self._record(request, began, response.status_code)
        answer = response.json()
        latency = time.monotonic()
        events = list(self._answer(request, answer))
        self.schedule(events)
        return self._record(request, began, 200, answer, events, latency)

    def _record(
        self,
        request: Asking,
        began: float,
        status: int,
        answer: JsonObject | None = None,
        events: Sequence[Record] = (),
        ended: float | None = None,
    ) -> Answered:
        ended = time.monotonic() if ended is None else ended
        answer = answer or {}
        values = [(event.topic, json.loads(event.value)) for event in events if event.value is not None]
        return Answered(
            request_id=request.request_id,
            user_id=request.user_id,
            time_us=request.time_us,
            wall_s=round(ended - self._began, 4),
            latency_ms=round((ended - began) * 1000, 3),
            status=status,
            bundle_id=answer.get("bundle_id") or "",
            triton_version=answer.get("triton_version"),
            fallback=answer.get("fallback"),
            experiments=answer.get("experiments", {}),
            items=tuple(item["item_id"] for item in answer.get("items", ())),
            scores=tuple(item.get("score") for item in answer.get("items", ())),
            clicks=tuple(value["item_id"] for topic, value in values if topic == "clicks"),
            purchases={value["item_id"]: value["amount_minor"] for topic, value in values if topic == "purchases"},
        )


def _body(request: Asking) -> JsonObject:
    return {
        "user_id": request.user_id,
        "candidates": list(request.candidates),
        "context": dict(request.context),
        "time": format_us(request.time_us),
    }


def read_log(path: Path) -> list[Answered]:
    """The answered requests of a run, in the order they were sent."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        value = json.loads(line)
        rows.append(Answered(**{**value, **{name: tuple(value[name]) for name in ("items", "scores", "clicks")}}))
    return rows


def wait_for_gateway(url: str, *, bundle_id: str = "", deadline_s: float = 60.0) -> None:
    """Wait until the gateway answers, and, where a bundle is named, serves it.

    Args:
        url: The gateway's address.
        bundle_id: Bundle that must be live.
        deadline_s: Seconds to wait.

    Raises:
        UnreachableError: If it does not within the deadline.
    """
    import httpx

    until = time.monotonic() + deadline_s
    waiter = threading.Event()
    while time.monotonic() < until:
        try:
            state = httpx.get(f"{url}/healthz", timeout=2.0, trust_env=trust_env(url))
            if state.status_code == 200 and (not bundle_id or bundle_id in state.text):
                return
        except httpx.HTTPError:
            pass
        waiter.wait(0.2)
    raise UnreachableError(
        "the gateway does not answer", field="gateway", value=url, remedy="see `freshrank status` and its log"
    )
