"""`freshrank rank`: ask the gateway for a list, from the shell."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer


def command(
    user: Annotated[str, typer.Option(help="Who asks.")],
    candidates: Annotated[str, typer.Option(help="Items to rank, separated by commas.")],
    context: Annotated[
        list[str] | None, typer.Option(help="key=value of the moment, such as zone=z1; repeat it.")
    ] = None,
    request_id: Annotated[str, typer.Option(help="Names the request; by default the gateway makes one up.")] = "",
    at: Annotated[str, typer.Option("--time", help="RFC 3339, where the gateway takes the client's time.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Rank candidates for a user through the gateway."""
    import httpx

    from features.errors import DataError, FreshrankError, UnreachableError, UsageError
    from freshrank import settings as all_settings
    from freshrank.stack import addresses

    pairs = [pair.partition("=") for pair in context or []]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise UsageError("not key=value", field="--context", value=wrong[0], remedy="write --context zone=z1")
    settings = all_settings.load()
    url = addresses.gateway_url(settings)
    body: dict[str, Any] = {
        "user_id": user,
        "candidates": [item for item in candidates.split(",") if item],
        "context": {key: _scalar(value) for key, _, value in pairs},
        **({"request_id": request_id} if request_id else {}),
        **({"time": at} if at else {}),
    }
    began = time.monotonic()
    try:
        response = httpx.post(f"{url}/rank", json=body, timeout=settings.gateway.timeout_ms / 1000 + 5)
    except httpx.HTTPError as error:
        raise UnreachableError(
            "the gateway does not answer", field="gateway", value=url, remedy="run `freshrank up`"
        ) from error
    answer = response.json()
    if response.status_code != 200:
        kind: type[FreshrankError] = UnreachableError if response.status_code == 503 else DataError
        detail = answer["error"]
        raise kind(detail["code"], field=detail["field"], value=detail["value"], remedy=detail["remedy"])
    if as_json:
        print(json.dumps(answer))
        return
    unknown = set(answer["unknown_items"])
    for item in answer["items"]:
        score = "" if item["score"] is None else f"{item['score']:+.4f}"
        note = "  (unknown)" if item["item_id"] in unknown else ""
        print(f"{item['position'] + 1:>4}  {score:>9}  {item['item_id']}{note}")
    arms = ", ".join(f"{name}: {arm}" for name, arm in answer["experiments"].items()) or "no experiment"
    ranked = (answer["fallback"] and f"fallback {answer['fallback']}") or answer["bundle_id"] or "uniform"
    print(
        f"rank: {len(answer['items'])} items by {ranked} version {answer['triton_version']} ({arms}), request "
        f"{answer['request_id']}; {(time.monotonic() - began) * 1000:.0f} ms"
    )


def _scalar(text: str) -> Any:
    """A value as JSON where it is one, else as text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | bool | int | float) or value is None else text
