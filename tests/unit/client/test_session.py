"""What a client does with whatever answers at an address that is not, or not yet, the service."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from multidict import CIMultiDict, CIMultiDictProxy

from ackledger.client import (
    AsyncClient,
    InvalidRequestError,
    RateLimitedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
)
from ackledger.client.session import Answer, retry_after_s

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def answering(handler: Handler, *, give_up_after_s: float = 5) -> AsyncIterator[AsyncClient]:
    """A client of what stands before a service, such as a load balancer."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with (
        TestServer(app) as server,
        AsyncClient(
            str(server.make_url("")), "ack_secret", give_up_after_s=give_up_after_s
        ) as client,
    ):
        yield client


async def test_a_busy_door_is_tried_again_after_what_it_asks_for() -> None:
    asked: list[float] = []

    async def busy_once(_: web.Request) -> web.Response:
        asked.append(time.monotonic())
        if len(asked) == 1:
            return web.Response(status=503, headers={"Retry-After": "1"})
        return web.json_response({"items": [], "next_cursor": None})

    async with answering(busy_once) as client:
        assert await client.find_transaction(idempotency_key="k") is None
        assert client.retries == 1
    assert asked[1] - asked[0] >= 1


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, UnavailableError)])
async def test_tries_are_bounded_and_the_last_answer_is_raised(
    status: int, kind: type[Exception]
) -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>later</html>")

    async with answering(busy, give_up_after_s=0.3) as client:
        began = time.monotonic()
        with pytest.raises(kind):
            await client.read_wallet("w")
        assert client.retries > 0
        assert time.monotonic() - began < 5


async def test_a_port_where_nobody_listens_is_unreachable_in_a_sentence() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    async with AsyncClient(url, "ack_secret", give_up_after_s=0.2) as client:
        with pytest.raises(UnreachableError) as refused:
            await client.read_wallet("w")
    assert str(refused.value) == f"{url}/v1/wallets/w: connection refused"


async def test_the_key_follows_no_redirect() -> None:
    paths: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with answering(elsewhere) as client:
        with pytest.raises(InvalidRequestError):
            await client.read_wallet("w")
    assert paths == ["/v1/wallets/w"]


async def test_a_page_of_something_else_is_no_answer() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    async with answering(page) as client:
        with pytest.raises(UnexpectedAnswerError):
            await client.read_wallet("w")


async def test_an_id_cannot_become_another_path() -> None:
    paths: list[str] = []

    async def note(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.Response(status=404)

    async with answering(note) as client:
        await asyncio.gather(client.read_wallet("../users?x=/"), return_exceptions=True)
    assert paths == ["/v1/wallets/..%2Fusers%3Fx=%2F"]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2", 2, 2),
        ("9999", 30, 30),
        ("", 0, 0),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 30, 30),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str, low: float, high: float) -> None:
    answer = Answer(503, None, CIMultiDictProxy(CIMultiDict({"Retry-After": text})))

    assert low <= retry_after_s(answer) <= high
