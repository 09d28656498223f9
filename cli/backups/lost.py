"""What was lost by a restore, from the log of events: the broker outlives the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from contracts.topology import EVENTS_LOG
from runtime.amqp.stream import open_stream
from runtime.event_log.event import LoggedEvent, next_events
from runtime.postgres.queries import load_queries
from runtime.service.settings import BrokerSettings

SILENCE_S: Final = 3.0
"""After which the log of events is read to its end."""
SKEW: Final = timedelta(seconds=5)
"""How far before a moment the log is read from: whoever named it may have had another clock."""
PREFETCH: Final = 50
"""Messages of the log in hand, of up to 64 events each."""
LOST_MAX: Final = 1_000_000
"""Transactions of one list, and a few more: they are held in memory. The next goes on behind."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A transaction that had an event, and is not in the books."""

    transaction_id: str
    submitter: str
    idempotency_key: str
    event_type: str
    occurred_at: str

    def to_json(self) -> dict[str, str]:
        """Return it as it is printed."""
        return {
            "transaction_id": self.transaction_id,
            "submitter": self.submitter,
            "idempotency_key": self.idempotency_key,
            "event_type": self.event_type,
            "occurred_at": self.occurred_at,
        }


@dataclass(frozen=True, slots=True)
class LostList:
    """What was lost, and behind which offset of the log there may be more; None at its end."""

    items: list[Lost]
    after: int | None


async def lost_transactions(
    settings: BrokerSettings,
    connection: "asyncpg.Connection[asyncpg.Record]",
    since: datetime,
    *,
    after: int | None = None,
    most: int = LOST_MAX,
) -> LostList:
    """Return what the log of events knows of since a moment, and the books do not.

    What was sent again under its key is in the books, under another id. `after` is what an earlier
    list came to, which ended at `most`.

    Raises one of UNREACHABLE, and TopologyError where no log is kept.
    """
    lost: dict[str, Lost] = {}
    start = since - SKEW if after is None else after + 1
    reached = after
    async with open_stream(
        settings.amqp_url, EVENTS_LOG, name="restore", start=start, prefetch=PREFETCH
    ) as stream:
        while len(lost) < most:
            events = await next_events(stream, within_s=SILENCE_S)
            if not events:
                return LostList(list(lost.values()), after=None)
            reached = events[-1].position.offset
            later = {
                event.transaction_id: _lost(event, orjson.loads(event.body))
                for event in events
                if event.occurred_at > since - SKEW
            }
            rows = await connection.fetch(
                load_queries("cli")["find_missing_transactions"],
                list(later),
                [one.submitter for one in later.values()],
                [one.idempotency_key for one in later.values()],
            )
            lost |= {str(row["id"]): later[str(row["id"])] for row in rows}
    return LostList(list(lost.values()), after=reached)


def _lost(event: LoggedEvent, view: Mapping[str, Any]) -> Lost:
    return Lost(
        event.transaction_id,
        event.submitter,
        view["idempotency_key"],
        event.type,
        view["occurred_at"],
    )
