"""An open loop: moments that wait for nobody, and answers read to their last byte."""

import asyncio
import statistics
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

import pytest
import uvloop

from tools.bench.failing import BenchFailedError
from tools.bench.open_loop import OpenLoop, OpenLoopReport, answer_length, poisson_moments

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n"


def test_moments_come_at_the_rate_and_end_in_time() -> None:
    moments = list(poisson_moments(1_000, 20.0, seed=1))

    assert len(moments) == pytest.approx(20_000, rel=0.05)
    assert moments == sorted(moments)
    assert moments[-1] < 20.0


def test_gaps_differ_as_much_as_those_of_independent_clients() -> None:
    moments = list(poisson_moments(1_000, 20.0, seed=2))
    gaps = [later - earlier for earlier, later in pairwise(moments)]

    # An exponential distribution deviates by its own mean.
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.1)


def test_the_same_seed_is_the_same_load() -> None:
    assert list(poisson_moments(50, 2, seed=9)) == list(poisson_moments(50, 2, seed=9))


def test_the_length_of_an_answer_is_known_once_its_head_is_there() -> None:
    assert answer_length(_HEAD[:-1]) is None
    assert answer_length(_HEAD) == len(_HEAD) + 4
    assert answer_length(b"HTTP/1.1 204 No Content\r\n\r\n") == 27


def test_a_run_without_an_answer_has_no_figures() -> None:
    with pytest.raises(BenchFailedError, match="3 failed, 2 never left"):
        OpenLoopReport(failed=3, dropped=2).figures()


def test_what_was_not_offered_in_time_stands_beside_the_quantiles() -> None:
    report = OpenLoopReport(latencies_ms=[1.0], offered=9, late=4, dropped=3, failed=2)

    figures = report.figures()

    counted = ("offered_requests", "late_requests", "dropped_requests", "failed_requests")
    assert [figures[name] for name in counted] == [9, 4, 3, 2]


class _Server:
    """Answers every request in two writes; every second connection refuses all."""

    def __init__(self) -> None:
        self.handlers: list[asyncio.Task[Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self.handlers.append(task)
        status = b"200 OK" if len(self.handlers) % 2 else b"503 Busy"
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\n\r\nan")
            await writer.drain()
            writer.write(b"sw")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_every_request_is_answered_and_refusals_are_no_latencies(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    run(_load_and_look())


async def _load_and_look() -> None:
    served = _Server()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    moments = list(poisson_moments(400, 0.5, seed=4))
    loop = OpenLoop(
        host="127.0.0.1",
        port=port,
        request_of=lambda: b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        moments=moments,
        warm_up_s=0.0,
    )

    report = await loop.run(connections=2)
    server.close()
    await asyncio.gather(*served.handlers)

    assert len(report.latencies_ms) + report.failed == len(moments)
    assert report.failed > 0
    assert report.first_failure.startswith("HTTP/1.1 503")
    assert min(report.latencies_ms) > 0


_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_MOMENTS: Final = [number / 200 for number in range(21)]
_LAST_S: Final = _MOMENTS[-1]


async def _offer(
    answers: asyncio.Event,
    moments: Sequence[float] = _MOMENTS,
    *,
    connections: int,
    settle_s: float = 10.0,
) -> OpenLoopReport:
    """Offer requests to a server that answers none before it may."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                await answers.wait()
                writer.write(_ANSWER)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    loop = OpenLoop(
        host="127.0.0.1",
        port=server.sockets[0].getsockname()[1],
        request_of=lambda: _REQUEST,
        moments=moments,
        warm_up_s=0.0,
        settle_s=settle_s,
    )
    try:
        return await loop.run(connections=connections)
    finally:
        answers.set()
        server.close()


async def test_requests_that_wait_for_a_connection_are_late_and_timed_from_their_moment() -> None:
    answers = asyncio.Event()
    asyncio.get_running_loop().call_later(3 * _LAST_S, answers.set)

    report = await _offer(answers, connections=1)

    # The first had a connection; the others waited for its answer, the last as long as it took.
    assert (report.offered, report.dropped, report.failed) == (21, 0, 0)
    assert report.late >= 20
    assert len(report.latencies_ms) == 21
    assert min(report.latencies_ms) > _LAST_S * 1000


async def test_requests_that_never_left_are_dropped_and_did_not_fail() -> None:
    report = await _offer(asyncio.Event(), connections=3, settle_s=0.1)

    assert (report.offered, report.dropped, report.failed) == (21, 18, 3)
    assert report.latencies_ms == []


async def test_requests_that_leave_at_their_moment_are_not_late() -> None:
    answers = asyncio.Event()
    answers.set()

    far_apart = [number / 20 for number in range(1, 11)]
    report = await _offer(answers, far_apart, connections=10)

    # A busy machine may hold some of them up, but not for half a second.
    assert report.late < len(far_apart)
    assert (report.offered, report.dropped, report.failed) == (10, 0, 0)
