"""Filling in what a client knows of its transactions only when it sends them."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from tools.chaos.command import Command, Terms
from tools.chaos.load.contents import Item, Later
from tools.chaos.load.doors import HttpDoor

_REMEMBERED_MAX: Final = 4096
"""Keys: more than a client has sent since whatever it may still repeat."""


class Filler:
    """Asks over HTTP for ids and versions; the same key is always filled in alike."""

    def __init__(self, http: HttpDoor) -> None:
        self._http = http
        self._terms: OrderedDict[str, Terms] = OrderedDict()

    async def filled(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Return items as they are sent, without those that refer to what there is not (yet).

        The members of an atomic batch are sent all or none.
        """
        found = await asyncio.gather(*(self._filled(item) for item in items))
        whole = tuple(item for item in found if item is not None)
        is_atomic = any(item.command.batch for item in items)
        return () if is_atomic and len(whole) < len(items) else whole

    async def id_of(self, key: str) -> UUID | None:
        """Return the transaction that a key stands for; None if nobody says so now."""
        status, answer = await self._http.next(
            "GET", "/v1/transactions", parameters={"idempotency_key": key}
        )
        items = answer["items"] if status == HTTPStatus.OK else []
        return UUID(items[0]["id"]) if items else None

    async def _filled(self, item: Item) -> Item | None:
        terms, later = item.command.terms, item.later
        other_key = None if terms is None else terms.other_key
        if other_key is None and later is None:
            return item
        known = self._terms.get(item.key)
        if known is None:
            known = await self._new_terms(item.command, later or Later(), other_key)
        if known is None:
            return None
        # Whoever asked for the same key meanwhile may have been quicker.
        known = self._terms.setdefault(item.key, known)
        while len(self._terms) > _REMEMBERED_MAX:
            self._terms.popitem(last=False)
        return replace(item, command=replace(item.command, terms=known))

    async def _new_terms(
        self, command: Command, later: Later, other_key: str | None
    ) -> Terms | None:
        terms = command.terms or Terms()
        if other_key is not None:
            other_id = await self.id_of(other_key)
            if other_id is None:
                return None
            terms = replace(terms, other_id=other_id)
        if later.is_versioned:
            version = await self._version_of(command.ordering_wallet)
            if version is None:
                return None
            terms = replace(terms, version=version)
        return replace(
            terms,
            valid_until=_ahead(later.valid_for_s),
            execute_at=_ahead(later.due_in_s),
        )

    async def _version_of(self, wallet_id: UUID | None) -> int | None:
        status, answer = await self._http.next("GET", f"/v1/wallets/{wallet_id}")
        return int(answer["version"]) if status == HTTPStatus.OK else None


def _ahead(span_s: float | None) -> datetime | None:
    return None if span_s is None else datetime.now(UTC) + timedelta(seconds=span_s)
