"""Whether one external wallet per currency holds four partitions up: deposits beside transfers.

A deposit's other side is the currency's one external wallet, whatever its partition. Both kinds are
accepted in batches over HTTP until the last is posted, in turns, on one private system each.
Run: `.venv/bin/python -m tools.bench.external_wallet [ROUNDS]`
"""

import asyncio
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp

from runtime.postgres.pool import connect
from tools.bench.draining import await_posted
from tools.stack import StackMode, StackOptions, start_stack
from tools.system import System

DIRECTORY: Final = Path(".local/external-wallet").absolute()
WALLETS: Final = 400
REQUESTS: Final = 80
BATCH: Final = 500
SENDERS: Final = 4


async def _wallets(session: aiohttp.ClientSession) -> list[str]:
    made = []
    for _ in range(WALLETS):
        body = {"currency": "EUR", "overdraft_limit": "1000000.00"}
        async with session.post("/v1/wallets", json=body) as answer:
            made.append((await answer.json())["id"])
    return made


def _item(kind: str, wallets: list[str], number: int) -> dict[str, Any]:
    item = {
        "idempotency_key": uuid4().hex,
        "type": kind,
        "amount": "1.00",
        "currency": "EUR",
        "destination_wallet_id": wallets[number % WALLETS],
    }
    if kind == "transfer":
        item["source_wallet_id"] = wallets[(number * 7 + 1) % WALLETS]
    return item


async def _rate(session: aiohttp.ClientSession, url: str, kind: str, wallets: list[str]) -> float:
    """Return transactions a second from the first request to the last commit."""
    connection = await connect(url, name="bench")
    began = time.monotonic()
    numbers = iter(range(REQUESTS))

    async def send() -> None:
        for number in numbers:
            items = [_item(kind, wallets, number * BATCH + place) for place in range(BATCH)]
            async with session.post("/v1/transactions/batch", json={"transactions": items}) as done:
                done.raise_for_status()

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    await await_posted(connection)
    rate = REQUESTS * BATCH / (time.monotonic() - began)
    await connection.close()
    return rate


async def _measure(system: System, url: str, rounds: int) -> dict[str, list[float]]:
    headers = {"Authorization": f"Bearer {system.api_key}"}
    rates: dict[str, list[float]] = {"transfer": [], "deposit": []}
    async with aiohttp.ClientSession(system.http_url, headers=headers) as session:
        wallets = await _wallets(session)
        for number in range(rounds):
            for kind in sorted(rates, reverse=number % 2 == 0):
                rates[kind].append(await _rate(session, url, kind, wallets))
    return rates


def main() -> None:
    """Measure with one partition and with four, and print medians and ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for partitions in (1, 4):
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        options = StackOptions(
            directory=DIRECTORY, mode=StackMode.LOCAL, environment=dict(os.environ)
        )
        with start_stack(options) as stack:
            environment = {
                "DATABASE_URL": stack.postgres.url,
                "AMQP_URL": stack.rabbitmq.url,
                "REDIS_URL": stack.redis.url,
                "ACKLEDGER_PARTITIONS": str(partitions),
            }
            system = System(
                environment=environment, directory=DIRECTORY / "system", say=lambda _: None
            )
            system.start()
            try:
                rates = asyncio.run(_measure(system, stack.postgres.url, rounds))
            finally:
                system.stop()
        transfer, deposit = (statistics.median(rates[kind]) for kind in ("transfer", "deposit"))
        sys.stdout.write(
            f"{partitions} partitions: transfers {transfer:,.0f}/s, deposits {deposit:,.0f}/s,"
            f" ratio {deposit / transfer:.2f}  {rates}\n"
        )


if __name__ == "__main__":
    main()
