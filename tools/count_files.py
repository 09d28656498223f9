"""Counts the files of ours that one request passes, from a trace of real calls.

    python -m tools.count_files post        # a POST, from the socket to its 202
    python -m tools.count_files aiohttp     # the same, served by aiohttp
    python -m tools.count_files upstream    # an upstream message, from the socket to its commit

The process in question runs here, under `sys.setprofile`, on private servers; the others run beside
it. What each of CALLS calls passed is listed in order: what runs by the clock is in some of them
only, and so is left out. `--out-of processor/poster.py` lists what that file calls of others
instead, each once. Ends with 1 if there are more files, or calls out of it, than `--most`.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import orjson

from ingress.composition import serve as serve_ingress
from processor.composition import serve as serve_processor
from runtime.service.lifecycle import run_process
from runtime.service.settings import IngressSettings, ProcessorSettings
from tools.stack import StackOptions, start_stack
from tools.stack.ports import PortClaims
from tools.system import MOVING_MONEY, Role, System

ROOT: Final = Path(__file__).resolve().parents[1]
CALLS: Final = 10
REST_S: Final = 0.4
"""Between two calls: what follows an answer, such as events, is done by then."""

Step = tuple[str, str]
"""A file, from the root of the tree, and the function in it."""


@dataclass
class Trace:
    """The functions of ours that are called between `begin` and the first call of `last`."""

    last: str
    out_of: str | None = None
    """The file of which only the calls into others count."""
    steps: dict[Step, None] = field(default_factory=dict)
    is_on: bool = False
    places: dict[CodeType, Step | None] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget what was called before, and listen."""
        self.steps = {}
        self.is_on = True

    def notice(self, frame: FrameType, event: str, _: object) -> None:
        """Take note of a call, as `sys.setprofile` tells of it."""
        if event != "call" or not self.is_on:
            return
        step = self._step(frame)
        if step is None:
            return
        self.is_on = step[1] != self.last
        if self.out_of is None or self._is_out(step, frame.f_back):
            self.steps[step] = None

    def _step(self, frame: FrameType) -> Step | None:
        code = frame.f_code
        if code not in self.places:
            self.places[code] = _place(code)
        return self.places[code]

    def _is_out(self, step: Step, caller: FrameType | None) -> bool:
        before = None if caller is None else self._step(caller)
        return before is not None and before[0] == self.out_of != step[0]


def _place(code: CodeType) -> Step | None:
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] in {"tools", ".venv"}:
        return None
    return path.relative_to(ROOT).as_posix(), code.co_qualname


@dataclass(frozen=True)
class Place:
    """Where the traced system is reached."""

    http_port: int
    api_key: str
    wallet: str
    amqp_url: str

    def deposit(self) -> dict[str, str]:
        """Return the body of a deposit."""
        return {
            "type": "deposit",
            "destination_wallet_id": self.wallet,
            "amount": "1.00",
            "currency": "USD",
        }

    def post(self, path: str, body: Mapping[str, object], more: str = "") -> Any:
        """POST on a connection of its own, and return the decoded answer."""
        content = orjson.dumps(body)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {self.api_key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
            f"Idempotency-Key: {uuid4().hex}\r\n{more}\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=20) as client:
            client.sendall(head.encode() + content)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        first, _, rest = answer.partition(b"\r\n")
        if first[9:10] != b"2":
            raise RuntimeError(answer.decode())
        return orjson.loads(rest.partition(b"\r\n\r\n")[2])


def _publish(place: Place) -> None:
    async def publish() -> None:
        async with await aio_pika.connect(place.amqp_url) as connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange("ackledger.transactions", ensure=False)
            body = {"version": 1, "idempotency_key": uuid4().hex, **place.deposit()}
            message = aio_pika.Message(
                orjson.dumps(body),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                user_id=urlsplit(place.amqp_url).username,
                type="transaction.requested.v1",
            )
            await exchange.publish(message, routing_key="any")

    asyncio.run(publish())


@dataclass(frozen=True)
class Case:
    """What is traced: a process, a call, and the function whose call ends it."""

    role: Role
    call: Callable[[Place], object]
    last: str


CASES: Final = {
    "post": Case(
        Role.INGRESS,
        lambda place: place.post("/v1/transactions", place.deposit()),
        "FastConnection.answer",
    ),
    "aiohttp": Case(
        Role.INGRESS,
        lambda place: place.post("/v1/transactions", place.deposit(), "TE: trailers\r\n"),
        "HttpConnection.finish_response",
    ),
    "upstream": Case(Role.PROCESSOR, _publish, "Poster._committed"),
}


def _drive(case: Case, trace: Trace, place: Callable[[], Place], passed: list[list[Step]]) -> None:
    """Make the calls, in a thread of their own, and end the traced process."""
    try:
        where = place()
        for number in range(CALLS + 1):
            time.sleep(REST_S)
            trace.begin()
            case.call(where)
            time.sleep(REST_S)
            if trace.is_on:
                raise RuntimeError(f"nobody called {trace.last}: name what ends this call now")
            if number:  # The first one meets empty caches.
                passed.append(list(trace.steps))
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # our own process
            return True
    except OSError:
        return False


def _run(case: Case, directory: Path, out_of: str | None) -> list[list[Step]]:
    """Run a system with one process of it in this one; return what each call passed."""
    ports = PortClaims()
    http_port, status_port = ports.claim_any(), ports.claim_any()
    ports.release()
    others = [one for one in MOVING_MONEY if one.role is not case.role]
    stack = start_stack(StackOptions(directory=directory, environment=dict(os.environ)))
    trace, passed = Trace(case.last, out_of), list[list[Step]]()
    with stack:
        environment = {
            "DATABASE_URL": stack.postgres.url,
            "AMQP_URL": stack.rabbitmq.url,
            "REDIS_URL": stack.redis.url,
        }
        own = {
            **environment,
            "ACKLEDGER_HTTP_PORT": str(http_port),
            "ACKLEDGER_STATUS_PORT": str(status_port),
        }
        system = System(
            environment=environment, directory=directory, instances=others, say=lambda _: None
        )
        system.start()
        is_ours = case.role is Role.INGRESS
        port = http_port if is_ours else urlsplit(system.http_url).port or 0

        def place() -> Place:
            while not _is_ready(f"http://127.0.0.1:{status_port}/readyz"):
                time.sleep(REST_S)
            made = Place(port, system.api_key, "", stack.upstream_url() or "")
            wallet = made.post("/v1/wallets", {"currency": "USD"})["id"]
            return Place(port, system.api_key, wallet, made.amqp_url)

        driver = threading.Thread(target=_drive, args=(case, trace, place, passed))
        driver.start()
        sys.setprofile(trace.notice)
        try:
            _serve(case.role, own)
        finally:
            sys.setprofile(None)
            driver.join()
            system.stop()
    return passed


def _serve(role: Role, environment: Mapping[str, str]) -> None:
    if role is Role.INGRESS:
        run_process(IngressSettings, serve_ingress, name="ingress", environment=environment)
    else:
        run_process(ProcessorSettings, serve_processor, name="processor", environment=environment)


def main() -> int:
    """Count, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--out-of", metavar="FILE", help="count what this file calls of others")
    parser.add_argument("--most", type=int, default=1_000, help="how many files there may be")
    wanted = parser.parse_args()
    passed = _run(CASES[wanted.case], ROOT / ".local" / "count-files", wanted.out_of)
    if len(passed) != CALLS:
        return 2
    always = set(passed[0]).intersection(*passed[1:])
    by_file: dict[str, list[str]] = {}
    for file, function in passed[0]:
        if (file, function) in always:
            by_file.setdefault(file, []).append(function)
    for file, functions in by_file.items():
        sys.stdout.write(f"{file}: {', '.join(functions)}\n")
    functions_total = sum(map(len, by_file.values()))
    sys.stdout.write(f"{len(by_file)} files, {functions_total} functions\n")
    counted = len(by_file) if wanted.out_of is None else functions_total
    return int(counted > wanted.most)


if __name__ == "__main__":
    sys.exit(main())
