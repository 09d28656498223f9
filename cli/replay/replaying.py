"""The replay itself: read, map, find wallets, send, settle; each in bounded memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from ackledger.client.asynchronous import AsyncClient
from cli.replay.doors import Door, encoded
from cli.replay.feed import Rows
from cli.replay.mapping import Account, ColumnMapping, Draft, RowError, draft_of
from cli.replay.ordering import Item
from cli.replay.reading import BadRow
from cli.replay.tally import Tally
from cli.replay.wallets import AccountWallets
from contracts.representations.transaction import format_moment

Wallets = Callable[[Sequence[Draft]], Awaitable[list[Item]]]

BATCH_DEFAULT: Final = 100
CONNECTIONS_DEFAULT: Final = 8


async def replay(
    chunks: AsyncIterator[Rows],
    mapping: ColumnMapping,
    *,
    door: Door,
    wallets: Wallets,
    rate_per_s: float | None,
    tally: Tally,
) -> None:
    """Send every row through a door; `tally` always says how far it is.

    `rate_per_s` bounds the rows a second; None is without a bound.
    Bad rows are counted and left out. Raises CommandError when the door cannot be used.
    """
    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(door.run())
            async for chunk in chunks:
                drafts = _drafts(chunk, mapping, tally)
                for item in await wallets(drafts):
                    await door.send(item)
                    tally.sent += 1
                await _keep_pace(rate_per_s, tally, started)
            await door.finish()
    finally:
        tally.duration_s = time.perf_counter() - started


def _drafts(chunk: Rows, mapping: ColumnMapping, tally: Tally) -> list[Draft]:
    drafts = []
    for row in chunk:
        tally.rows += 1
        if isinstance(row, BadRow):
            tally.reject(row)
            continue
        try:
            drafts.append(draft_of(row, mapping))
        except RowError as error:
            tally.reject(BadRow(row.line, str(error)))
    return drafts


async def _keep_pace(rate_per_s: float | None, tally: Tally, started: float) -> None:
    """Wait while more rows have been sent than the rate allows by now."""
    if rate_per_s is not None:
        ahead_s = tally.rows / rate_per_s - (time.perf_counter() - started)
        await asyncio.sleep(max(0.0, ahead_s))


def named_wallets() -> Wallets:
    """Return what makes items of drafts that name wallets by their ids."""

    async def items(drafts: Sequence[Draft]) -> list[Item]:
        return [_item(draft, {one: one.name for one in draft.accounts}) for draft in drafts]

    return items


def account_wallets(accounts: AccountWallets, tally: Tally) -> Wallets:
    """Return what makes items of drafts that name accounts: it finds or makes their wallets."""

    async def items(drafts: Sequence[Draft]) -> list[Item]:
        await accounts.find(drafts)
        tally.wallets = len(accounts)
        return [_item(draft, accounts.of(draft)) for draft in drafts]

    return items


def since_now(wallets: Wallets, client: AsyncClient, tally: Tally) -> Wallets:
    """Return the same, noting the service's time before the first item is sent."""

    async def items(drafts: Sequence[Draft]) -> list[Item]:
        made = await wallets(drafts)
        if made and tally.since is None:
            tally.since = await _service_time(client, made[0].wallet)
        return made

    return items


async def _service_time(client: AsyncClient, wallet_id: str) -> str:
    """The database's clock; without such a wallet, the second that the HTTP answer names."""
    answer = await client.call("GET", f"/v1/wallets/{wallet_id}/balance")
    if answer.status == HTTPStatus.OK:
        return str(answer.body["at"])
    return format_moment(parsedate_to_datetime(answer.headers["Date"]))


def _item(draft: Draft, wallets: Mapping[Account, str]) -> Item:
    key = draft.body["idempotency_key"]
    return Item(
        line=draft.line,
        wallet=wallets[draft.counted_with],
        key=key,
        body=encoded(draft.request(wallets)),
        names=(*(wallets[name] for name in draft.accounts), key),
    )
