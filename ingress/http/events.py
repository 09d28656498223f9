"""The call that follows events: as server-sent events for as long as the client stays, or a page.

Server-sent events are written by hand: three lines each, and a library's task for the heartbeats of
each client is what takes the memory. Whether those who follow may still have them is asked every
second, once for each token. Whoever reaches less than when it began may not go on: it is served by
what it could see then.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

import orjson
import structlog
from aiohttp import web

from contracts.problems import ContractError, ProblemCode
from contracts.scopes import Reach, Scope
from contracts.webhooks import EVENT_TYPES
from ingress.access import holder_of
from ingress.authentication import LOOKUP_MAX, Authenticator, token_of
from ingress.calls import Services, not_found
from ingress.events.log import EventLog, Follower, FollowingEndedError, unavailable
from ingress.http.middleware import NAMES, Call
from ingress.wallet_calls import wallet_not_found
from runtime.amqp.connection import UNREACHABLE
from runtime.amqp.topology import TopologyError
from runtime.event_log.event import LoggedEvent, LogPosition, Wanted
from runtime.resilience.error_classification import is_transient
from runtime.service.batcher import BatcherFullError

INTERVAL_S: Final = 1.0
"""Between two rounds. A look-up is good for as long, so a revocation is felt in twice that."""
RETRY_MS: Final = 1_000
"""After which a browser connects again."""
ACCESS_FRESH_S: Final = 1.0
"""No event is sent to whom nobody has looked up for so long: a revocation is felt within it."""
SILENT_MAX: Final = 1_000
"""Events that were looked at and not wanted, after which the client is told how far it is."""
PIECE_OCTETS: Final = 32 * 1024
"""Written at once; a client that does not read has this and a full socket, and gets no more."""
LOOKED_AT_MAX: Final = 5_000
"""Events that one page looks at."""
PAGE_S: Final = 2.0
"""For a page: one that is not full by then ends where it has come to."""
_HEARTBEAT: Final = b": heartbeat\n\n"
_RESET: Final = b"event: reset\ndata: {}\n\n"
_UNREADABLE: Final[tuple[type[BaseException], ...]] = (TopologyError, *UNREACHABLE)
_BEGIN: Final = b"retry: %d\n\n" % RETRY_MS

log = structlog.get_logger()


def is_passing(error: Exception) -> bool:
    """Whether a token could not be looked up now, which says nothing about it."""
    return is_transient(error) or isinstance(error, BatcherFullError)


class AccessWatch:
    """Ends what was begun under a token that does not allow it any more."""

    def __init__(self, callers: Authenticator, *, scope: Scope) -> None:
        """`scope`: what a caller needs."""
        self._callers = callers
        self._scope = scope
        self._open: dict[tuple[str, Reach], set[Callable[[], None]]] = defaultdict(set)

    @contextmanager
    def watching(self, token: str, reach: Reach, end: Callable[[], None]) -> Iterator[None]:
        """Call `end`, at least once, when the token does not allow this block any more."""
        begun = (token, reach)
        self._open[begun].add(end)
        try:
            yield
        finally:
            self._open[begun].discard(end)
            if not self._open[begun]:
                del self._open[begun]

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            begun = iter(list(self._open))
            while group := list(islice(begun, LOOKUP_MAX)):
                await asyncio.gather(*(self._check(*one) for one in group))

    async def require(self, token: str, reach: Reach) -> None:
        """Raise ContractError where a token does not allow what was begun with this reach."""
        client = await self._callers.client_of(token)
        client.require(self._scope)
        if reach is Reach.ALL and client.reach is not Reach.ALL:
            raise ContractError(
                ProblemCode.INSUFFICIENT_SCOPE, "you do not reach everybody's events any more"
            )

    async def _check(self, token: str, reach: Reach) -> None:
        try:
            await self.require(token, reach)
        except ContractError:
            for end in list(self._open.get((token, reach), ())):
                end()
        except Exception as error:
            # Nobody gets an event meanwhile: before each one the same is asked.
            if not is_passing(error):
                raise
            log.debug("events_access_unknown", error=repr(error))


class EventCalls:
    """Events over HTTP."""

    def __init__(
        self,
        event_log: EventLog,
        services: Services,
        *,
        access: AccessWatch,
        heartbeat_s: float,
    ) -> None:
        self._log = event_log
        self._services = services
        self._access = access
        self._heartbeat_s = heartbeat_s

    async def follow(self, call: Call) -> web.StreamResponse:
        """GET /v1/events."""
        wanted = await self._wanted(call)
        if _asks_for_json(call.request.headers.get("Accept", "")):
            return await self._page(call, wanted)
        position = call.request.headers.get("Last-Event-ID")
        async with self._log.follow(call.client, wanted) as follower:
            is_there = position is None or await _begin_after(follower, position)
            token = token_of(call.request.headers.get("Authorization", "")) or ""
            with self._access.watching(token, call.client.reach, follower.end):
                stream = _Stream(call, follower, self._access, token, self._heartbeat_s)
                return await stream.write(is_reset=not is_there)

    async def _wanted(self, call: Call) -> Wanted:
        """Return what is asked for; raises ContractError for what is not the caller's."""
        query, client = call.query, call.client
        wallet_id, transaction_id = query.uuid("wallet_id"), query.uuid("transaction_id")
        event_type = query.text("type")
        if event_type is not None and event_type not in EVENT_TYPES:
            raise ContractError(
                ProblemCode.INVALID_PARAMETER, f"type is one of {', '.join(EVENT_TYPES)}"
            )
        if wallet_id is not None and not await self._services.guard.is_theirs(client, wallet_id):
            raise wallet_not_found(wallet_id)
        if transaction_id is not None and client.reach is not Reach.ALL:
            views = await self._services.views(client, [transaction_id])
            if not views:
                raise not_found(transaction_id)
        return Wanted(
            None if client.reach is Reach.ALL else holder_of(client),
            None if wallet_id is None else frozenset({wallet_id}),
            transaction_id,
            None if event_type is None else frozenset({event_type}),
        )

    async def _page(self, call: Call, wanted: Wanted) -> web.Response:
        limit, after = call.query.limit(), call.query.text("after")
        async with self._log.follow(call.client, wanted) as follower:
            is_there = after is not None and await _begin_after(follower, after)
            if not is_there:
                with _broker_reached():
                    await follower.begin_at_first()
            page = await _collected(follower, limit)
        page["reset"] = after is not None and not is_there
        return web.Response(body=orjson.dumps(page), content_type="application/json")


async def _begin_after(follower: Follower, event_id: str) -> bool:
    with _broker_reached():
        return await follower.begin_after(LogPosition.of_id(event_id))


@contextmanager
def _broker_reached() -> Iterator[None]:
    """Raise ContractError where the stream cannot be read."""
    try:
        yield
    except _UNREADABLE as error:
        raise unavailable("the broker cannot be reached") from error


async def _collected(follower: Follower, limit: int) -> dict[str, object]:
    """Return so many events, and how far it has come."""
    items: list[tuple[LoggedEvent, bytes]] = []
    last = follower.position
    looked_at = 0
    until = time.monotonic() + PAGE_S
    while (
        len(items) < limit
        and looked_at < LOOKED_AT_MAX
        and not follower.is_at_end
        and time.monotonic() < until
    ):
        taken = await follower.take()
        items += taken.events
        last = taken.last or last
        looked_at += taken.looked_at
    is_cut = len(items) > limit
    if is_cut:
        items = items[:limit]
        last = items[-1][0].position
    has_more = is_cut or not follower.is_at_end
    return {
        "items": [orjson.Fragment(body) for _, body in items],
        "next_cursor": last.id if has_more and last else None,
        "last_id": last and last.id,
    }


class _Stream:
    """One client's server-sent events."""

    def __init__(
        self,
        call: Call,
        follower: Follower,
        access: AccessWatch,
        token: str,
        heartbeat_s: float,
    ) -> None:
        self._request = call.request
        self._follower = follower
        self._access = access
        self._token = token
        self._reach = call.client.reach
        self._heartbeat_s = heartbeat_s
        self._looked_up_at = time.monotonic()
        self._silent = SILENT_MAX
        self._response = web.StreamResponse(headers={**call.count.headers, **_HEADERS})

    async def write(self, *, is_reset: bool) -> web.StreamResponse:
        """Send events until the client goes, may not have them any more, or this process stops."""
        await self._response.prepare(self._request)
        await self._response.write(_BEGIN + (_RESET if is_reset else b""))
        try:
            while True:
                await self._write_next()
        except FollowingEndedError:
            pass  # the end of the answer says it: whoever connects again is told why
        except Exception as error:
            # The head is sent, so this cannot become a problem any more.
            # Most of it a client can only meet by connecting again.
            if isinstance(error, ContractError) or is_passing(error):
                log.debug("events_ended", error=repr(error))
            else:
                log.exception("events_failed", request_id=self._request[NAMES][1])
        return self._response

    async def _write_next(self) -> None:
        try:
            async with asyncio.timeout(self._heartbeat_s):
                taken = await self._follower.take()
        except TimeoutError:
            await self._response.write(_HEARTBEAT)
            return
        if taken.is_reset:
            await self._response.write(_RESET)
        self._silent += taken.looked_at
        if taken.events:
            self._silent = 0
            for piece in _pieces(taken.events):
                if time.monotonic() - self._looked_up_at > ACCESS_FRESH_S:
                    await self._check()
                await self._response.write(piece)
        elif taken.last is not None and self._silent > SILENT_MAX:
            self._silent = 0
            await self._response.write(f"id: {taken.last.id}\n\n".encode())

    async def _check(self) -> None:
        """Raise ContractError where the caller may not have events any more."""
        await self._access.require(self._token, self._reach)
        self._looked_up_at = time.monotonic()


_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    # A proxy that collects an answer before it passes it on would keep events back.
    "X-Accel-Buffering": "no",
}


def _pieces(events: Sequence[tuple[LoggedEvent, bytes]]) -> Iterator[bytes]:
    """Yield events as they are sent, so much at a time as may wait for a client that is slow."""
    blocks: list[bytes] = []
    size = 0
    for event, body in events:
        block = _block(event, body)
        blocks.append(block)
        size += len(block)
        if size >= PIECE_OCTETS:
            yield b"".join(blocks)
            blocks, size = [], 0
    if blocks:
        yield b"".join(blocks)


def _block(event: LoggedEvent, body: bytes) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        event.position.id.encode(),
        event.type.encode(),
        body,
    )


def _asks_for_json(accept: str) -> bool:
    """Whether a client wants a page: it names JSON, and no stream before it."""
    named = [one.partition(";")[0].strip().lower() for one in accept.split(",")]
    return "application/json" in named and "text/event-stream" not in named
