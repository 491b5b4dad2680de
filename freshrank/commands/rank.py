"""`freshrank rank`: ask the gateway for a list, from the shell."""

from __future__ import annotations

import json
import math
import time
import unicodedata
from typing import TYPE_CHECKING, Annotated

import typer

from features.encoded import JsonObject

if TYPE_CHECKING:
    from features.events import Scalar

_BREAKING = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of a pair, ends of lines and paragraphs


def command(
    user: Annotated[str, typer.Option(help="Who asks.")],
    candidates: Annotated[
        str | None, typer.Option(help="Items to rank, separated by commas; one whose id holds a comma by --candidate.")
    ] = None,
    candidate: Annotated[
        list[str] | None, typer.Option(help="One item to rank, taken as it stands, commas too; repeat it.")
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="key=value of the moment, such as zone=z1; repeat it.")
    ] = None,
    request_id: Annotated[str, typer.Option(help="Names the request; by default the gateway makes one up.")] = "",
    at: Annotated[str, typer.Option("--time", help="RFC 3339, where the gateway takes the client's time.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Rank candidates for a user through the gateway."""
    from features.errors import UsageError
    from freshrank import settings as all_settings
    from freshrank.stack import addresses

    if candidates is None and not candidate:
        remedy = "name items with --candidates a,b or, where an id holds a comma, with --candidate 'a,b' for each"
        raise UsageError("nothing to rank", field="--candidates", value=None, remedy=remedy)
    pairs = [pair.partition("=") for pair in context or []]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise UsageError("not key=value", field="--context", value=wrong[0], remedy="write --context zone=z1")
    settings = all_settings.load()
    body: JsonObject = {
        "user_id": user,
        "candidates": [*(item for item in (candidates or "").split(",") if item), *(candidate or [])],
        "context": {key: _scalar(value) for key, _, value in pairs},
        **({"request_id": request_id} if request_id else {}),
        **({"time": at} if at else {}),
    }
    began = time.monotonic()
    answer = ask(addresses.gateway_url(settings), body, settings.gateway.timeout_ms / 1000 + 5)
    if as_json:
        print(json.dumps(answer))
        return
    unknown = set(answer["unknown_items"])
    for item in answer["items"]:
        score = "" if item["score"] is None else f"{item['score']:+.4f}"
        note = "  (unknown)" if item["item_id"] in unknown else ""
        print(f"{item['position'] + 1:>4}  {score:>9}  {shown(item['item_id'])}{note}")
    arms = ", ".join(f"{name}: {arm}" for name, arm in answer["experiments"].items()) or "no experiment"
    ranked = (answer["fallback"] and f"fallback {answer['fallback']}") or answer["bundle_id"] or "uniform"
    print(
        f"rank: {len(answer['items'])} items by {ranked} version {answer['triton_version']} ({arms}), request "
        f"{answer['request_id']}; {(time.monotonic() - began) * 1000:.0f} ms"
    )


def ask(url: str, body: JsonObject, timeout_s: float) -> JsonObject:
    """The gateway's answer to `POST /rank`.

    Args:
        url: The gateway's address, without a slash at the end.
        body: The request.
        timeout_s: Deadline.

    Raises:
        UsageError: If an argument is no text that can be sent.
        DataError: If the gateway refuses the request.
        UnreachableError: If it does not answer, cannot rank now, or something else answers at its address.
        FreshrankError: If the gateway has a bug.
    """
    import httpx

    from features.errors import DataError, FreshrankError, UnreachableError, UsageError
    from features.proxies import trust_env

    try:
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        remedy = "write arguments in UTF-8"
        raise UsageError(
            "not text", field="arguments", value=ascii(error.object[error.start]), remedy=remedy
        ) from error
    headers = {"content-type": "application/json"}
    try:
        response = httpx.post(
            f"{url}/rank", content=content, headers=headers, timeout=timeout_s, trust_env=trust_env(url)
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(
            "the gateway does not answer", field="gateway", value=url, remedy="run `freshrank up`"
        ) from error
    try:
        answer: JsonObject = response.json()
        if response.status_code == 200 and answer["items"] is not None:
            return answer
        detail = answer["error"]
        kinds: dict[int, type[FreshrankError]] = {500: FreshrankError, 503: UnreachableError}
        kind = kinds.get(response.status_code, DataError)
        refusal = kind(detail["code"], field=detail["field"], value=detail["value"], remedy=detail["remedy"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(
            f"no gateway answers here but something else, with {response.status_code}", field="gateway", value=url,
            remedy="mend gateway.host and stack.port_base, or the proxy in between",
        ) from error  # fmt: skip
    raise refusal


def shown(text: str) -> str:
    r"""An id for a line on a terminal: control characters are written as escapes, everything else stays.

    Example:
        >>> shown("蘋果, 'a' 🥛"), shown("a\nb")
        ("蘋果, 'a' 🥛", 'a\\nb')
    """
    return "".join(
        each.encode("unicode_escape").decode("ascii") if unicodedata.category(each) in _BREAKING else each
        for each in text
    )


def _scalar(text: str) -> Scalar:
    """A value as JSON where it is one that JSON can write again, else as text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text
    return value if isinstance(value, str | bool | int | float) or value is None else text
