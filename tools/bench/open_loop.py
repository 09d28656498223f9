"""An open loop: requests leave at moments chosen before, whatever became of those before them.

Each is timed from its chosen moment to the last byte of its answer. So a server that stalls is
charged with all that would have come meanwhile, which a load generator that waits for answers
hides (coordinated omission). Those that leave late, because no connection was free or because the
generator itself was, are counted, and so are those that never left: a load of which much was not
offered is not the load that its name says.
"""

import asyncio
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from tools.bench.failing import BenchFailedError
from tools.bench.statistics import quantile

CONNECTIONS_MAX: Final = 1_000
SETTLE_S: Final = 15.0
"""For the last answers, after the last request."""
LATE_S: Final = 0.005
"""Beyond the switch interval and a busy core's turn: the load waits, and not the clock."""
_SWITCH_S: Final = 0.0005
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_OK: Final = b"HTTP/1.1 200"
_SHOWN: Final = 400


def poisson_moments(rate_per_s: float, seconds: float, *, seed: int) -> Iterator[float]:
    """Yield when requests leave, in seconds from the beginning: as independent clients would."""
    rng = random.Random(seed)
    at_s = rng.expovariate(rate_per_s)
    while at_s < seconds:
        yield at_s
        at_s += rng.expovariate(rate_per_s)


@dataclass(slots=True)
class OpenLoopReport:
    """Latencies of the answered requests, warm-up left out; `cores`: what the generator took.

    Of all that were `offered`, `late` ones left more than LATE_S after their moment, `dropped` ones
    never, and `failed` ones left without coming to a good answer.
    """

    latencies_ms: list[float] = field(default_factory=list)
    offered: int = 0
    late: int = 0
    dropped: int = 0
    failed: int = 0
    cores: float = 0.0
    first_failure: str = ""

    def figures(self) -> dict[str, float]:
        """Return the usual quantiles; raises BenchFailedError without a single answer."""
        if not self.latencies_ms:
            raise BenchFailedError(
                f"no request was answered well ({self.failed} failed, {self.dropped} never left): "
                f"{self.first_failure}"
            )
        ordered = sorted(self.latencies_ms)
        return {
            "p50_ms": quantile(ordered, 0.5),
            "p90_ms": quantile(ordered, 0.9),
            "p99_ms": quantile(ordered, 0.99),
            "offered_requests": float(self.offered),
            "late_requests": float(self.late),
            "dropped_requests": float(self.dropped),
            "failed_requests": float(self.failed),
            "load_generator_cores": self.cores,
        }


def answer_length(received: bytes) -> int | None:
    """Return how many bytes an HTTP answer has in all; None while its head is not complete."""
    end = received.find(_HEAD_END)
    if end < 0:
        return None
    head = received[:end].lower()
    at = head.find(_LENGTH)
    length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return end + len(_HEAD_END) + length


Answered = Callable[["_Connection", bytes], None]


class _Connection(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.moment = 0.0
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, moment: float) -> None:
        """Send a request that was due at `moment`."""
        self.moment, self.is_busy, self._received = moment, True, b""
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        length = answer_length(self._received)
        if length is not None and len(self._received) >= length:
            self.is_busy = False
            self._answered(self, self._received)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self.is_busy:
            self.is_busy = False
            self._answered(self, b"the connection was lost")

    @property
    def is_open(self) -> bool:
        """Whether it can take a request."""
        return self._transport is not None

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()


class OpenLoop:
    """One load: requests made by `request_of`, at Poisson moments."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        request_of: Callable[[], bytes],
        moments: Sequence[float],
        warm_up_s: float,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._host = host
        self._port = port
        self._request_of = request_of
        self._moments = moments
        self._warm_up_s = warm_up_s
        self._settle_s = settle_s
        self._idle: deque[_Connection] = deque()
        self._all: list[_Connection] = []
        self._due: deque[float] = deque()
        self._open = len(moments)
        self._done = asyncio.Event()
        self._began = 0.0
        self._sent = 0
        self._report = OpenLoopReport(offered=len(moments))

    async def run(self, *, connections: int) -> OpenLoopReport:
        """Send everything, and return when all is answered or the time for it is over."""
        if connections > CONNECTIONS_MAX:
            raise ValueError(f"{connections} connections, {CONNECTIONS_MAX} at most")
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, one = await loop.create_connection(
                lambda: _Connection(self._answered), self._host, self._port
            )
            self._all.append(one)
        self._idle.extend(self._all)
        try:
            await self._send_all(loop)
        finally:
            for one in self._all:
                one.close()
        self._report.dropped = len(self._moments) - self._sent
        self._report.failed += self._open - self._report.dropped
        return self._report

    async def _send_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let a thread keep the time: an event loop's timers are a millisecond coarse."""
        previous = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        cpu, self._began = time.process_time(), time.perf_counter()
        pacer = threading.Thread(target=self._pace, args=(loop,), name="pacer", daemon=True)
        pacer.start()
        try:
            async with asyncio.timeout(self._moments[-1] + self._settle_s):
                await self._done.wait()
        except TimeoutError:
            pass  # what is still open counts as failed, or as dropped
        finally:
            sys.setswitchinterval(previous)
        elapsed = time.perf_counter() - self._began
        self._report.cores = (time.process_time() - cpu) / elapsed

    def _pace(self, loop: asyncio.AbstractEventLoop) -> None:
        at = 0
        moments = self._moments
        while at < len(moments):
            ahead_s = self._began + moments[at] - time.perf_counter()
            if ahead_s > 0:
                time.sleep(ahead_s)
            now_s = time.perf_counter() - self._began
            first = at
            while at < len(moments) and moments[at] <= now_s:
                at += 1
            loop.call_soon_threadsafe(self._fire, moments[first:at])

    def _fire(self, moments: Sequence[float]) -> None:
        self._due.extend(moments)
        while self._due and self._idle:
            one = self._idle.popleft()
            if one.is_open:
                self._send(one, self._began + self._due.popleft())

    def _send(self, connection: _Connection, moment: float) -> None:
        self._sent += 1
        self._report.late += time.perf_counter() - moment > LATE_S
        connection.send(self._request_of(), moment)

    def _answered(self, connection: _Connection, answer: bytes) -> None:
        now = time.perf_counter()
        report = self._report
        if not answer.startswith(_OK):
            report.failed += 1
            report.first_failure = report.first_failure or answer[:_SHOWN].decode(errors="replace")
        elif connection.moment - self._began >= self._warm_up_s:
            report.latencies_ms.append((now - connection.moment) * 1000)
        self._open -= 1
        if self._open == 0:
            self._done.set()
        self._idle.append(connection)
        self._fire(())
