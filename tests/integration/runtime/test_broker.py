"""Reaching the broker: whatever keeps us from it is an error that we expect."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import uvloop
from yarl import URL

from runtime.amqp.connection import UNREACHABLE, close, connect
from runtime.amqp.incoming import FilteredConnection

_TRIES = 100


@pytest.fixture
def hanging_up() -> Iterator[str]:
    """The AMQP URL of an address that accepts and hangs up at once, as a balancer may."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            accepted.shutdown(socket.SHUT_WR)
            accepted.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


async def _outcomes(url: str) -> Counter[str]:
    """Which error each try ended with; the library's differs with what came first."""
    found: Counter[str] = Counter()
    for _ in range(_TRIES):
        try:
            await close(await connect(url, name="test"))
        except UNREACHABLE:
            found["unreachable"] += 1
        except Exception as error:  # noqa: BLE001  # the claim is that there is no other
            found[type(error).__name__] += 1
    return found


async def test_an_address_that_hangs_up_at_once_is_an_unreachable_broker(hanging_up: str) -> None:
    # On uvloop, which the processes run on: there the end often comes before the first read.
    found = await asyncio.to_thread(uvloop.run, _outcomes(hanging_up))

    assert found == {"unreachable": _TRIES}


async def test_a_connection_that_failed_is_closed_and_leaves_nothing_to_its_collection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = URL(f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/")
    connection = FilteredConnection(nobody)

    with pytest.raises(UNREACHABLE):
        await connection.connect()

    assert connection.is_closed
