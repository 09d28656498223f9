"""Hostile messages and requests by the thousand: `make hostile MESSAGES=20000 EXAMPLES=60`.

    python -m tools.hostile --messages 20000 --examples 60

A private system gets so many messages that no contract knows (octets, JSON with parts exchanged,
missing or doubled, properties of the wrong kind), with good ones among them; then schemathesis
tries every operation of the published document, as a system and as people who are signed in.
Afterwards every process must be the one that was started, every message a transaction or a dead
letter, every good one posted, `verify` clean, and no answer a 5xx or an undocumented one. Exit 0 if
all is well.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aio_pika
import aiohttp
import orjson

from cli.launching import with_our_code
from cli.users import create_user, new_password
from contracts.messages import REQUESTED_TYPE
from contracts.scopes import Role as PersonRole
from contracts.topology import TRANSACTIONS_EXCHANGE
from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from tools.generated_requests import (
    ENDLESS,
    ENDS_THE_SESSION,
    NOT_LIMITED,
    SEED,
    try_operations,
)
from tools.proving import Verdict, private_servers
from tools.system import CLIENT, MOVING_MONEY, System

DIRECTORY: Final = Path(".local/hostile")
PEOPLE: Final = (PersonRole.CUSTOMER, PersonRole.ADMIN)
"""Who signs in, beside the system: the least and the most that people may do."""
GOOD_EVERY: Final = 50
"""Every so many messages one is good."""
FLIGHT: Final = 200
DRAINED_S: Final = 900.0
_VALUES: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 1e400, "", "x" * 300, [], {}, [[]], {"a": {}}, "0.001", "-5", "NaN", "1e3",
    "' OR 1=1 --", "\u0000", "\ud800", "2026-13-45T00:00:00Z", str(uuid4()), 2**70,
)  # fmt: skip
_NAMES: Final = (
    *("version", "idempotency_key", "type", "destination_wallet_id", "amount", "currency"),
    *("legs", "mode", "hold_id", "nothing"),
)
_TYPES: Final = (REQUESTED_TYPE, "transaction.requested.v9", "", "order.created")
_CONTENT_TYPES: Final = ("application/json", "text/plain", "", "application/xml")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, and its key if it is good."""

    body: bytes
    properties: dict[str, Any]
    good_key: str | None = None


def messages(wallet_id: str, count: int, *, seed: int) -> Iterator[Message]:
    """Yield messages, nearly all of them broken in one way or several."""
    chance = random.Random(seed)
    usual = {"content_type": "application/json", "type": REQUESTED_TYPE, "user_id": CLIENT}
    for number in range(count):
        good = {
            "version": 1,
            "idempotency_key": f"good-{number}",
            "type": "deposit",
            "destination_wallet_id": wallet_id,
            "amount": "0.01",
            "currency": "USD",
        }
        if number % GOOD_EVERY == 0:
            yield Message(orjson.dumps(good), usual, str(good["idempotency_key"]))
            continue
        properties = dict(usual)
        if chance.random() < 0.1:  # noqa: PLR2004, one in ten
            properties["type"] = chance.choice(_TYPES)
            properties["content_type"] = chance.choice(_CONTENT_TYPES)
        key = f"{chance.getrandbits(128):032x}"
        # Long enough that no change makes one key of another: a replay would be no new row.
        yield Message(_broken({**good, "idempotency_key": key}, chance), properties)


def _broken(good: dict[str, Any], chance: random.Random) -> bytes:
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randrange(400))
        case 1:
            body = bytearray(orjson.dumps(good))
            for _ in range(chance.randrange(1, 6)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            return bytes(body)
        case 2:
            return orjson.dumps(good)[: chance.randrange(120)]
        case _:
            changed = dict(good)
            for _ in range(chance.randrange(1, 4)):
                name, value = chance.choice(_NAMES), chance.choice(_VALUES)
                is_key = name == "idempotency_key" and isinstance(value, str) and value
                changed[name] = f"{value}{good[name]}" if is_key else value
            if chance.random() < 0.3:  # noqa: PLR2004, three in ten
                changed.pop(chance.choice(list(changed)))
            # The standard library writes what is no JSON, too, which is wanted here.
            return json.dumps(changed).encode("utf-8", "surrogatepass")


class Attack:
    """One system, and what is asked of it."""

    def __init__(self, system: System, environment: dict[str, str], upstream_url: str) -> None:
        self._system = system
        self._environment = environment
        self._upstream_url = upstream_url
        self.verdict = Verdict()

    async def send(self, count: int) -> None:
        """Send messages, and hold what became of them against what was sent."""
        wallet_id = await self._wallet()
        good = 0
        connection = await aio_pika.connect(self._upstream_url)
        async with connection:
            channel = await connection.channel(on_return_raises=True)
            exchange = await channel.get_exchange(TRANSACTIONS_EXCHANGE, ensure=False)
            flight: list[asyncio.Future[Any]] = []
            for one in messages(wallet_id, count, seed=SEED):
                good += one.good_key is not None
                flight.append(
                    asyncio.ensure_future(
                        exchange.publish(aio_pika.Message(one.body, **one.properties), wallet_id)
                    )
                )
                if len(flight) == FLIGHT:
                    await asyncio.gather(*flight)
                    flight.clear()
            await asyncio.gather(*flight)
        await self._judge(count, good)

    async def try_every_operation(self, examples: int) -> None:
        """Let schemathesis try the published document, and note what it says."""
        await self._try("a system's key", self._system.api_key, ENDLESS, examples)
        for role in PEOPLE:
            # Made just before: whoever came first may have changed who others are.
            token = await self._token(role)
            await self._try(f"a person, {role}", token, ENDLESS | ENDS_THE_SESSION, examples)

    async def _try(self, who: str, token: str, excluded: frozenset[str], examples: int) -> None:
        tried = await asyncio.to_thread(
            try_operations,
            self._system.http_url,
            token,
            examples=examples,
            directory=DIRECTORY / who.replace(" ", "_"),
            environment=self._environment,
            excluded=excluded,
        )
        what = f"schemathesis as {who}: no 5xx, nothing undocumented"
        told = tried.told if tried.cases else f"see {tried.log}"
        self.verdict.note(what, told, is_well=tried.is_well)

    def verify(self) -> None:
        """Prove the books."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cli", "verify", "--json"],
            env=with_our_code(self._environment),
            stdout=subprocess.PIPE,
            check=False,
            text=True,
        )
        report = json.loads(done.stdout)
        found = ", ".join(sorted({one["check"] for one in report["findings"]}))
        self.verdict.note("verify", found or "clean", is_well=bool(report["clean"]))

    async def _judge(self, count: int, good: int) -> None:
        connection = await connect(self._environment["DATABASE_URL"], name="hostile")
        ended, until = 0, time.monotonic() + DRAINED_S
        try:
            # The broker's counts say nothing of what a process has in hand: the tables do.
            while True:
                row = await connection.fetchrow(load_queries("tools")["count_hostile"])
                assert row is not None, "it selects from one row"  # noqa: S101
                ended = row["transactions"] + row["letters"]
                if (ended >= count and row["good"] >= good) or time.monotonic() > until:
                    break
                await asyncio.sleep(1)
        finally:
            await connection.close()
        told = f"{row['transactions']:,} transactions, {row['letters']:,} dead letters"
        # No message is a batch, and no two have one key.
        self.verdict.note(f"{count:,} messages became", told, is_well=ended == count)
        posted = f"{row['good']:,} of {good:,}"
        self.verdict.note("good ones among them, posted", posted, is_well=row["good"] == good)

    async def _token(self, role: PersonRole) -> str:
        """Return the access token of somebody new who has a role."""
        email, password = f"{role}@example.com", new_password()
        connection = await connect(self._environment["DATABASE_URL"], name="hostile")
        try:
            await create_user(
                connection, email=email, name=None, role=role, password=password, actor="hostile"
            )
        finally:
            await connection.close()
        body = {"email": email, "password": password}
        async with (
            aiohttp.ClientSession(self._system.http_url) as session,
            session.post("/v1/auth/login", json=body) as response,
        ):
            return str((await response.json())["access_token"])

    async def _wallet(self) -> str:
        headers = {"Authorization": f"Bearer {self._system.api_key}"}
        async with (
            aiohttp.ClientSession(self._system.http_url, headers=headers) as session,
            session.post("/v1/wallets", json={"currency": "USD"}) as response,
        ):
            return str((await response.json())["id"])


def main() -> None:
    """Exit 0 if all is well, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--examples", type=int, default=60)
    options = parser.parse_args()
    directory = DIRECTORY.absolute()
    with private_servers(directory, upstream_users=(CLIENT,)) as (stack, servers):
        environment = {**servers, **NOT_LIMITED}
        system = System(environment=environment, directory=directory, instances=MOVING_MONEY)
        system.start()
        upstream_url = stack.rabbitmq.upstream_url(CLIENT)
        if upstream_url is None:
            raise SystemExit("the private broker has no upstream user")
        attack = Attack(system, environment, upstream_url)
        before = {name: system.pid(name) for name in system.status_urls}
        try:
            asyncio.run(attack.send(options.messages))
            asyncio.run(attack.try_every_operation(options.examples))
            attack.verify()
            after = {name: system.pid(name) for name in system.status_urls}
            told = "all" if before == after else str({k for k in before if before[k] != after[k]})
            attack.verdict.note("processes that never ended", told, is_well=before == after)
        finally:
            system.stop()
    attack.verdict.end(("what", "measured", ""), otherwise=f"NOT WELL; logs are in {DIRECTORY}")


if __name__ == "__main__":
    main()
