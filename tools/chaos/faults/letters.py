"""Dead letters that come back late."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid4

import orjson

from ackledger.client.asynchronous import AsyncClient
from cli.migrating import MigrateSettings
from contracts.topology import DEAD_LETTERS, TRANSACTIONS_EXCHANGE
from runtime.amqp.connection import close, connect, open_channel, user_of
from runtime.service.settings import load_settings
from tools.chaos.faults.fault import ClaimBrokenError, SceneFault
from tools.chaos.faults.messages import await_row, publish
from tools.chaos.scene import NotStruckError, Scene

_AMOUNT: Final = "7.00"


@asynccontextmanager
async def _replayed_late(scene: Scene) -> AsyncIterator[None]:
    """Have one message both posted and buried, then let an operator replay the dead letter."""
    async with AsyncClient(scene.system.http_url, scene.system.api_key) as client:
        wallet = await client.create_wallet(currency="USD")
        await _post_and_bury(scene, str(wallet.id))
        yield
        balance = (await client.read_wallet(wallet.id)).balance
    if balance != Decimal(_AMOUNT):
        raise ClaimBrokenError(f"{_AMOUNT} was deposited under one key; the balance is {balance}")


def _key() -> str:
    return f"late-{uuid4().hex}"


async def _post_and_bury(scene: Scene, wallet: str) -> None:
    key, url = _key(), scene.stack.rabbitmq.url
    body = orjson.dumps(
        {
            "version": 1,
            "idempotency_key": key,
            "type": "deposit",
            "destination_wallet_id": wallet,
            "amount": _AMOUNT,
            "currency": "USD",
        }
    )
    connection = await connect(url, name="chaos")
    try:
        channel = await open_channel(connection)
        await publish(channel, body, exchange=TRANSACTIONS_EXCHANGE, key=wallet, user=user_of(url))
        await await_row(scene, "is_final_by_key", user_of(url), key, what="the message is posted")
        await publish(channel, body, exchange=DEAD_LETTERS, key="any", user=user_of(url))
    finally:
        await close(connection)
    letter = await await_row(scene, "read_dead_letter", body, what="the message is a dead letter")
    await _replay(scene, UUID(str(letter)))


async def _replay(scene: Scene, dead_letter_id: UUID) -> None:
    from cli.dead_letters import end

    settings = load_settings(MigrateSettings, scene.stack.urls)
    async for outcome in end(settings, [dead_letter_id], is_replay=True, dry_run=False):
        if outcome.fate != "replayed":
            raise NotStruckError(f"the dead letter is {outcome.fate}: {outcome.detail}")


FAULTS: Final = (
    SceneFault(
        name="dead-letter-replayed-late",
        claim="a dead letter replayed after its key was completed changes nothing",
        strike=_replayed_late,
    ),
)
