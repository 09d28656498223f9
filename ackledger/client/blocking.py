"""The same clients for programs without asyncio: each call runs on an event loop in a thread.

There is one telling of what a call does, the asynchronous one. Any number of threads may share a
client, and it works where a loop already runs, as in a notebook.
"""

import asyncio
import functools
import os
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from ackledger.client.asynchronous import AsyncClient
from ackledger.client.publishing import AsyncPublisher
from ackledger.client.session import GIVE_UP_AFTER_S

P = ParamSpec("P")
T = TypeVar("T")
Inner = TypeVar("Inner", bound=AsyncClient | AsyncPublisher)

_CLOSE_TIMEOUT_S: Final = 10.0
_END: Final = object()
_CLOSED: Final = "the client is closed"


class _LoopThread:
    """An event loop in a thread of its own, begun with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0
        self._is_closed = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns; Ctrl-C cancels it.

        Raises RuntimeError where the client is closed, before or meanwhile.
        """
        try:
            loop = self._running()
        except RuntimeError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last coroutine, if anything ever ran, and end the thread; once is enough."""
        with self._lock:
            loop, thread = self._loop, self._thread
            is_ours = self._process == os.getpid()
            self._loop, self._thread, self._is_closed = None, None, True
        if loop is None or thread is None or not is_ours:
            return

        async def end() -> None:
            # Other threads may still wait for a call of theirs.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for one in others:
                one.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            try:
                await last()
            finally:
                loop.stop()

        asyncio.run_coroutine_threadsafe(end(), loop)
        # A client that nobody holds any more may be collected in its own thread.
        if threading.current_thread() is not thread:
            thread.join(_CLOSE_TIMEOUT_S)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._is_closed:
                raise RuntimeError(_CLOSED)
            if self._loop is None:
                self._loop, self._process = asyncio.new_event_loop(), os.getpid()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="ackledger-client", daemon=True
                )
                self._thread.start()
            if self._process != os.getpid():
                raise RuntimeError("the client was used before a fork: make one in each process")
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class _Blocking(Generic[Inner]):
    """Who wraps an asynchronous client, and closes it with its thread."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner
        self._thread = _LoopThread()
        # Also when nobody holds it any more, and at the program's end.
        self._closing = weakref.finalize(self, self._thread.close, inner.close)

    def __repr__(self) -> str:
        """Say whose door it is, never the key."""
        return repr(self._inner).removeprefix("Async")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the thread."""
        self._closing()


def _call(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking[Any], P], T]:
    """Return the method that waits for what the asynchronous one returns."""

    @functools.wraps(method)
    def called(self: _Blocking[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._inner, *args, **kwargs))

    return called


def _iterate(
    method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[_Blocking[Any], P], Generator[T, None, None]]:
    """Return the method that iterates over what the asynchronous one iterates over."""

    @functools.wraps(method)
    def iterated(
        self: _Blocking[Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[T, None, None]:
        items = method(self._inner, *args, **kwargs)
        return _each(self._thread, items)

    return iterated


def _each(thread: _LoopThread, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    async def step() -> Any:
        return await anext(items, _END)

    async def end() -> None:
        await items.aclose()

    try:
        while (item := thread.run(step())) is not _END:
            yield item
    finally:
        # A client that is closed first has ended it already.
        with suppress(RuntimeError):
            thread.run(end())


class Client(_Blocking[AsyncClient]):
    """Everything that a system does with its API key; each call waits for its answer.

    The methods are those of AsyncClient, with the same arguments, results and errors.

        with Client("https://ledger.example", api_key) as client:
            wallet = client.create_wallet(currency="EUR")
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        connections: int = 16,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """As AsyncClient."""
        super().__init__(
            AsyncClient(
                url, api_key, connections=connections, give_up_after_s=give_up_after_s, tls=tls
            )
        )

    submit = _call(AsyncClient.submit)
    submit_batch = _call(AsyncClient.submit_batch)
    preview = _call(AsyncClient.preview)
    cancel = _call(AsyncClient.cancel)
    read_transaction = _call(AsyncClient.read_transaction)
    wait = _call(AsyncClient.wait)
    find_transaction = _call(AsyncClient.find_transaction)
    list_transactions = _iterate(AsyncClient.list_transactions)
    create_wallet = _call(AsyncClient.create_wallet)
    read_wallet = _call(AsyncClient.read_wallet)
    change_wallet = _call(AsyncClient.change_wallet)
    list_wallets = _iterate(AsyncClient.list_wallets)
    list_entries = _iterate(AsyncClient.list_entries)
    list_holds = _iterate(AsyncClient.list_holds)
    read_balance = _call(AsyncClient.read_balance)
    follow_events = _iterate(AsyncClient.follow_events)
    call = _call(AsyncClient.call)


class Publisher(_Blocking[AsyncPublisher]):
    """Publishes as an upstream system; each call returns when the broker has the message for sure.

    with Publisher("amqps://shop:…@broker.example/") as publisher:
        publisher.publish(Transfer(...))
    """

    def __init__(self, url: str, *, give_up_after_s: float = GIVE_UP_AFTER_S) -> None:
        """As AsyncPublisher."""
        super().__init__(AsyncPublisher(url, give_up_after_s=give_up_after_s))

    def __enter__(self) -> Self:
        self._thread.run(self._inner.open())
        return self

    publish = _call(AsyncPublisher.publish)
    publish_batch = _call(AsyncPublisher.publish_batch)
