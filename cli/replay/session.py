"""One replay from its options to its tally: clients opened, file read, progress shown."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from http import HTTPStatus
from itertools import islice

from rich.progress import Progress

from ackledger.client.asynchronous import AsyncClient
from ackledger.client.publishing import AsyncPublisher, quiet_libraries
from cli.clients.errors import first_cause
from cli.failures import UsageError
from cli.output import console
from cli.replay.doors import AmqpDoor, Door, HttpDoor
from cli.replay.feed import begun
from cli.replay.options import ReplayOptions
from cli.replay.progress import followed, progress_bars
from cli.replay.reading import Source
from cli.replay.replaying import (
    Wallets,
    account_wallets,
    named_wallets,
    replay,
    since_now,
)
from cli.replay.sent import SentRows
from cli.replay.settling import Settlement
from cli.replay.tally import Tally
from cli.replay.wallets import AccountWallets
from contracts.money import AssetSource, currency_refusal, register_asset

_WINDOW_TRANSACTIONS = 4_000
"""Unconfirmed transactions over AMQP: some hundred milliseconds of the broker's work."""
_WINDOW_LEAST = 8


async def run_replay(options: ReplayOptions, tally: Tally) -> None:
    """Replay a file; `tally` is filled as it goes, so an interrupted one can be told of, too.

    Raises CommandError or AckledgerError when the file or a door cannot be used.
    """
    quiet_libraries()
    try:
        await _run(options, tally)
    except BaseExceptionGroup as group:
        raise first_cause(group) from None


async def _run(options: ReplayOptions, tally: Tally) -> None:
    source = Source(options.file, file_format=options.file_format, delimiter=options.delimiter)
    with closing(source), progress_bars(console(is_error=True)) as progress:
        chunks = await begun(islice(source.rows(options.mapping), options.limit))
        async with AsyncExitStack() as stack:
            client = (
                await stack.enter_async_context(_client(options)) if _needs_http(options) else None
            )
            await _learn_assets(client)
            _check_currency(options)
            publisher = None
            sent = None
            if options.via == "amqp":
                publisher = await stack.enter_async_context(_publisher(options))
                sent = stack.enter_context(SentRows()) if options.waits else None
            async with _bar(progress, options, source, tally):
                await replay(
                    chunks,
                    options.mapping,
                    door=_door(options, client, publisher, tally, sent=sent),
                    wallets=_wallets(options, client, tally),
                    rate_per_s=options.rate_per_s,
                    tally=tally,
                )
            if options.waits and client is not None:
                submitter = publisher.user if publisher else None
                settlement = Settlement(
                    client,
                    tally,
                    submitter=submitter,
                    sent=sent,
                    timeout_s=options.wait_timeout_s,
                )
                await _settle(progress, settlement, tally)


async def _settle(progress: Progress, settlement: Settlement, tally: Tally) -> None:
    async with followed(
        progress,
        "waiting (wallets)",
        total=len(tally.trails),
        position=lambda: settlement.settled,
        count=lambda: settlement.settled,
    ):
        await settlement.run()


async def _learn_assets(client: AsyncClient | None) -> None:
    """Let rows name registered assets; a key without the right to list them does without."""
    if client is None:
        return
    answer = await client.call("GET", "/v1/assets")
    if answer.status == HTTPStatus.OK:
        for one in answer.body["items"]:
            if one["source"] == AssetSource.REGISTERED:
                register_asset(one["code"], one["exponent"], is_usable=True)


def _check_currency(options: ReplayOptions) -> None:
    """Raise UsageError where --currency names none: every row would be a bad one."""
    currency = options.mapping.currency
    refusal = None if currency is None else currency_refusal(currency, pays_out=True)
    if refusal is not None:
        raise UsageError(f"--currency: {refusal}")


def _needs_http(options: ReplayOptions) -> bool:
    return options.via == "http" or options.waits or options.mapping.makes_wallets


def _client(options: ReplayOptions) -> AsyncClient:
    url, api_key = options.addresses.http()
    return AsyncClient(url, api_key, connections=options.connections)


def _publisher(options: ReplayOptions) -> AsyncPublisher:
    window = max(_WINDOW_LEAST, _WINDOW_TRANSACTIONS // options.batch)
    return AsyncPublisher(options.addresses.amqp(), window=window)


def _door(
    options: ReplayOptions,
    client: AsyncClient | None,
    publisher: AsyncPublisher | None,
    tally: Tally,
    *,
    sent: SentRows | None,
) -> Door:
    if publisher is not None:
        return AmqpDoor(publisher, tally, batch=options.batch, sent=sent)
    if client is None:
        raise AssertionError("one of the doors is open")
    return HttpDoor(client, tally, connections=options.connections, batch=options.batch)


def _wallets(options: ReplayOptions, client: AsyncClient | None, tally: Tally) -> Wallets:
    if client is None or not options.mapping.makes_wallets:
        wallets = named_wallets()
    else:
        accounts = AccountWallets(
            client, key_prefix=options.mapping.key_prefix, at_once=options.connections
        )
        wallets = account_wallets(accounts, tally)
    if client is not None and options.via == "amqp" and options.waits:
        return since_now(wallets, client, tally)
    return wallets


@asynccontextmanager
async def _bar(
    progress: Progress, options: ReplayOptions, source: Source, tally: Tally
) -> AsyncIterator[None]:
    is_by_rows = options.limit is not None or source.size is None
    async with followed(
        progress,
        f"replaying over {options.via.upper()}",
        total=options.limit if is_by_rows else source.size,
        position=lambda: tally.rows if is_by_rows else source.position,
        count=lambda: tally.answered,
    ):
        yield
