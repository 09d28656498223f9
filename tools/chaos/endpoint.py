"""A receiver of webhooks that is not always well: it verifies, keeps, and now and then fails.

An event fails at its first arrival only, by the seed: answered 500, cut off, or never answered. So
each is taken at the second at the latest, and a run needs not wait for the pause after that.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any, BinaryIO, Final, Self
from uuid import UUID

import orjson
from aiohttp import web
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from ackledger.client.asynchronous import AsyncClient
from runtime.postgres.pool import CONNECT_TIMEOUT_S, connect
from runtime.postgres.queries import load_queries
from tools.chaos.doors import Doors
from tools.chaos.following import FollowedEvent

HANG_MAX_S: Final = 20.0
"""Longer than a notifier waits for an answer."""
HURRY_EVERY_S: Final = 5.0
"""How often, at the end of a run, what waits for its next attempt is made due."""
_LOOK_S: Final = 0.5
_TAKEN: Final = 204
_FAILED: Final = 500
_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


class Mood(Enum):
    """What it does with a request."""

    TAKE = auto()
    FAIL = auto()
    """Answer 500."""
    CLOSE = auto()
    """End the connection without an answer."""
    HANG = auto()
    """Keep it waiting for longer than it waits."""


_SHARES: Final = ((Mood.HANG, 0.003), (Mood.CLOSE, 0.03), (Mood.FAIL, 0.07))
"""Of first arrivals. What hangs has one of a webhook's ten places for 15 s, so it is rare."""


def mood_of(seed: int, name: str, event_id: UUID) -> Mood:
    """Return how the first arrival of an event is met; the others are taken. Pure."""
    drawn = random.Random(f"{seed}/{name}/{event_id}").random()
    for mood, share in _SHARES:
        if drawn < share:
            return mood
        drawn -= share
    return Mood.TAKE


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook, and what it asked for; None: any."""

    name: str
    secret: str
    since: datetime
    event_types: tuple[str, ...] | None
    wallet_ids: tuple[UUID, ...] | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was taken."""

    hook: str
    event: FollowedEvent


class WebhookEndpoint:
    """Serves on this machine, for webhooks that it makes itself."""

    def __init__(self, doors: Doors, *, directory: Path, seed: int) -> None:
        self.path = directory / "arrivals.jsonl"
        self.hooks: list[Hook] = []
        self.moods: Counter[str] = Counter()
        """How requests were met."""
        self.faults: list[tuple[str, str]] = []
        """Requests that were not as the specification has them: the event, and what was wrong."""
        self._doors = doors
        self._seed = seed
        self._secrets: dict[str, str] = {}
        self._seen: set[tuple[str, UUID]] = set()
        self._is_well = False
        self._released = asyncio.Event()
        self._file: BinaryIO | None = None
        self._port = 0
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._file = self._exits.enter_context(self.path.open("wb"))
        app = web.Application()
        app.router.add_post("/{name}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._exits.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._port = runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.get_well()
        await self._exits.aclose()

    async def subscribe(
        self,
        name: str,
        *,
        event_types: Sequence[str] | None = None,
        wallet_ids: Sequence[UUID] | None = None,
    ) -> None:
        """Make a webhook that leads here; None: of all. For a healthy system."""
        body: dict[str, Any] = {
            "url": f"http://127.0.0.1:{self._port}/{name}",
            "event_types": ["*"] if event_types is None else list(event_types),
            "wallet_ids": None if wallet_ids is None else [str(one) for one in wallet_ids],
        }
        async with AsyncClient(self._doors.http_urls[0], self._doors.api_key) as client:
            made = (await client.call("POST", "/v1/webhooks", body=body)).wanted()
        self._secrets[name] = made["secret"]
        self.hooks.append(
            Hook(
                name,
                made["secret"],
                datetime.fromisoformat(made["created_at"]),
                None if event_types is None else tuple(event_types),
                None if wallet_ids is None else tuple(wallet_ids),
            )
        )

    def get_well(self) -> None:
        """Take whatever comes from now on, and let nothing hang any more."""
        self._is_well = True
        self._released.set()

    async def await_all(self, until_offset: int | None, *, bound_s: float) -> float | None:
        """Return after how many seconds all up to an event of the log was delivered.

        None if not within the bound. What a killed notifier had in hand, or what failed, waits for
        a minute and more: here it is made due. For a system that is healed.
        """
        self.get_well()
        sql = load_queries(__package__)
        connection = await connect(self._doors.database_url, name="chaos-webhooks")
        began = hurried = time.monotonic()
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                row = await connection.fetchrow(sql["count_deliveries"], until_offset)
                if row is not None and row["is_read"] and not row["waiting"]:
                    return time.monotonic() - began
                if time.monotonic() - hurried > HURRY_EVERY_S:
                    hurried = time.monotonic()
                    await connection.execute(sql["hurry_deliveries"])
                if time.monotonic() - began > bound_s:
                    return None
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)

    def read(self) -> Iterator[Arrival]:
        """Yield what was taken, in the order of arrival."""
        if self._file is not None and not self._file.closed:
            self._file.flush()
        with self.path.open("rb") as lines:
            for line in lines:
                name, _, event = line.partition(b" ")
                yield Arrival(name.decode(), FollowedEvent.of_line(event))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        name, body = request.match_info["name"], await request.read()
        headers = {one: request.headers.get(one, "") for one in _HEADERS}
        fault = fault_of(self._secrets.get(name, ""), body, headers)
        if fault is not None:
            self.faults.append((f"{name} {headers['webhook-id']}", fault))
            return web.Response(status=400)
        event = FollowedEvent.of_body(body)
        mood = self._mood(name, event.event_id)
        self.moods[mood.name.lower()] += 1
        match mood:
            case Mood.TAKE:
                assert self._file is not None  # noqa: S101  # entered before anything arrives
                self._file.write(name.encode() + b" " + event.to_line())
                return web.Response(status=_TAKEN)
            case Mood.CLOSE if request.transport is not None:
                request.transport.abort()
            case Mood.HANG:
                await self._hang()
            case _:
                pass
        return web.Response(status=_FAILED)

    def _mood(self, name: str, event_id: UUID) -> Mood:
        is_first = (name, event_id) not in self._seen
        self._seen.add((name, event_id))
        return mood_of(self._seed, name, event_id) if is_first and not self._is_well else Mood.TAKE

    async def _hang(self) -> None:
        try:
            async with asyncio.timeout(HANG_MAX_S):
                await self._released.wait()
        except TimeoutError:
            return


def fault_of(secret: str, body: bytes, headers: dict[str, str]) -> str | None:
    """Return what is wrong with a request; None: nothing. Pure, but for the age of its signature.

    Its id is the event's, so that each attempt has the same.
    """
    try:
        Webhook(secret).verify(body, headers)
    except (WebhookVerificationError, ValueError) as error:
        return f"its signature is not valid: {error}"
    event_id = orjson.loads(body)["event_id"]
    if headers["webhook-id"] != event_id:
        return f"its webhook-id is not that of event {event_id}"
    return None
