"""Whoever hears of events over HTTP in a chaos run: a client that follows, and webhooks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from tools.chaos.doors import Doors
from tools.chaos.endpoint import WebhookEndpoint
from tools.chaos.events import EventRecorder
from tools.chaos.following import EventFollower

ENDINGS_HOOK: Final = "endings"
WALLETS_HOOK: Final = "wallets"
_ENDINGS: Final = (
    "transaction.failed",
    "transaction.reversed",
    "transaction.quarantined",
    "transaction.hold_expired",
)
"""All but completions, of which there are many times more than of these together."""


@dataclass(frozen=True, slots=True)
class Heard:
    """After how many seconds all was heard, from when the broker had told all; None: not in time.

    `followed_s`: by the client that follows. `delivered_s`: by the webhooks, from then on.
    """

    followed_s: float | None = None
    delivered_s: float | None = None


@dataclass(frozen=True, slots=True)
class Listeners:
    """A client that follows all events, and an endpoint of some webhooks."""

    follower: EventFollower
    endpoint: WebhookEndpoint

    async def subscribe(self, wallet_ids: Sequence[UUID]) -> None:
        """Make webhooks: of every end but completion, and of all that happens to some wallets."""
        await self.endpoint.subscribe(ENDINGS_HOOK, event_types=_ENDINGS)
        await self.endpoint.subscribe(WALLETS_HOOK, wallet_ids=wallet_ids)

    async def drain(self, events: EventRecorder, *, bound_s: float) -> Heard:
        """Wait until all that the recorder has was heard; each wait has the bound."""
        told = {event.event_id for event in events.read()}
        followed_s = await self.follower.await_events(told, bound_s=bound_s)
        delivered_s = await self.endpoint.await_all(self.follower.last_offset, bound_s=bound_s)
        return Heard(followed_s, delivered_s)

    def counts(self) -> dict[str, int]:
        """Return how often what happened, as the report tells it."""
        follower, endpoint = self.follower, self.endpoint
        return {
            "connections": follower.connections,
            "transactions looked up": follower.lookups,
            "webhook requests": endpoint.moods.total(),
            **{f"webhook requests met by {mood}": n for mood, n in sorted(endpoint.moods.items())},
        }


@asynccontextmanager
async def listening(doors: Doors, *, directory: Path, seed: int) -> AsyncIterator[Listeners]:
    """Listen as long as the block lasts; entered before anything happens that is to be heard."""
    async with (
        EventFollower(doors, directory=directory) as follower,
        WebhookEndpoint(doors, directory=directory, seed=seed) as endpoint,
    ):
        yield Listeners(follower, endpoint)
