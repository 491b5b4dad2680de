"""Repeated requests: the same id gets the same answer, and one impression."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from serving.gateway.api import ApiError, RankRequest, RankResponse

KEPT = 10_000  # answers remembered; beyond them the event log's readers drop the second impression


class Repeats:
    """Remembers answers by request id."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[RankRequest, asyncio.Future[RankResponse]]] = OrderedDict()

    async def once(self, request: RankRequest, rank: Callable[[RankRequest], Awaitable[RankResponse]]) -> RankResponse:
        """The answer to a request, ranked once for each id.

        Args:
            request: The request.
            rank: Ranks it.

        Raises:
            ApiError: 422 if the id was used for another request, or what `rank` raises; an error is not remembered.
        """
        if request.request_id is None:
            return await rank(request)
        name = request.request_id
        if name in self._known:
            before, answer = self._known[name]
            if before != request:
                remedy = "use a new id for a new request"
                raise ApiError(422, "request_id_reused", field="request_id", value=name, remedy=remedy)
            return await asyncio.shield(answer)
        future: asyncio.Future[RankResponse] = asyncio.get_running_loop().create_future()
        self._known[name] = (request, future)
        try:
            answered = await rank(request)
        except BaseException as error:
            if self._known.get(name, (None, None))[1] is future:  # it may have been forgotten meanwhile
                del self._known[name]
            future.set_exception(error if isinstance(error, Exception) else ConnectionAbortedError())
            future.exception()  # looked at: nobody else may be waiting
            raise
        future.set_result(answered)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return answered
