"""Who gets a webhook's events: its owner, with the rights that it has at this moment; pure.

What a reader sees of an event is said by `Wanted`, here as for `GET /v1/events`. It is asked when
an event is written down for a webhook, and again before each attempt to send it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

import asyncpg

from contracts.scopes import (
    EVENTS_SCOPE,
    Reach,
    Rights,
    rights_of_key,
    rights_of_role,
    widest_reach,
)
from runtime.access.wallets import Holder, Holders
from runtime.event_log.event import LoggedEvent, Wanted

Readers = Mapping[UUID, Holder | None]
"""Webhooks whose owners may have events: whose, or None for everybody's. Others are not in it."""


def readers_of(rows: Iterable[asyncpg.Record]) -> Readers:
    """Return the readers that rows of `webhook_rights` make."""
    rights: dict[UUID, list[Rights]] = defaultdict(list)
    owners: dict[UUID, asyncpg.Record] = {}
    for row in rows:
        owners[row["webhook_id"]] = row
        rights[row["webhook_id"]].append(
            rights_of_key(row["scopes"], row["reach"])
            if row["role"] is None
            else rights_of_role(row["role"])
        )
    readers: dict[UUID, Holder | None] = {}
    for webhook_id, owner in owners.items():
        reach = widest_reach(rights[webhook_id], EVENTS_SCOPE)
        if reach is not None:
            is_of_all = reach is Reach.ALL and owner["made_with"] == Reach.ALL
            readers[webhook_id] = (
                None if is_of_all else Holder(owner["submitter"], owner["owner_id"])
            )
    return readers


def shown_now(
    body: bytes, webhook_id: UUID, readers: Readers, holders: Mapping[UUID, Holders]
) -> bytes | None:
    """Return what is sent of an event that was written down for a webhook; None: nothing.

    `holders` are those of the event's wallets; of a reader of everybody's they are not asked.
    """
    if webhook_id not in readers:
        return None
    holder = readers[webhook_id]
    if holder is None:
        return body
    event = LoggedEvent.read(0, body)
    return None if event is None else Wanted(holder).shown(event, holders)
