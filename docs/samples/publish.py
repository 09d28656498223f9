"""Publish a deposit with aio-pika: ACKLEDGER_UPSTREAM_AMQP_URL, the wallet's id and a key."""

import asyncio
import json
import os
import sys
from urllib.parse import unquote, urlsplit

import aio_pika


async def main(wallet_id: str, key: str) -> None:
    """Return when the broker has the message; raises where it was returned or not confirmed."""
    url = os.environ["ACKLEDGER_UPSTREAM_AMQP_URL"]
    body = {
        "version": 1,
        "idempotency_key": key,
        "type": "deposit",
        "destination_wallet_id": wallet_id,
        "amount": "10.00",
        "currency": "EUR",
    }
    message = aio_pika.Message(
        json.dumps(body).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        type="transaction.requested.v1",
        user_id=unquote(urlsplit(url).username or "guest"),
    )
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange("ackledger.transactions", ensure=False)
        # The wallet that is credited (of all but deposits: debited) keeps its order.
        await exchange.publish(message, routing_key=wallet_id, mandatory=True, timeout=30)
    print("confirmed", key)


asyncio.run(main(sys.argv[1], sys.argv[2]))
