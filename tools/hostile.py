"""Hostile messages and requests by the thousand: `make hostile MESSAGES=20000 EXAMPLES=60`.

    python -m tools.hostile --messages 20000 --examples 60

A private system gets so many messages that no contract knows (octets, JSON with parts exchanged,
missing or doubled, properties of the wrong kind), with good ones among them; then schemathesis
tries every operation of the published document. Afterwards every process must be the one that was
started, every message a transaction or a dead letter, every good one posted, `verify` clean, and
no answer a 5xx or an undocumented one. Exit 0 if all is well.
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
from typing import Any, Final, TextIO
from uuid import uuid4

import aio_pika
import aiohttp
import orjson

from cli.launching import with_our_code
from contracts.messages import REQUESTED_TYPE
from contracts.topology import TRANSACTIONS_EXCHANGE
from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from tools.proving import Verdict, private_servers
from tools.system import CLIENT, MOVING_MONEY, System

DIRECTORY: Final = Path(".local/hostile")
DOCUMENT: Final = Path(__file__).parents[1] / "contracts/documents/openapi.json"
CHECKS: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,ignored_auth"
)
SEED: Final = 20_261_129
GOOD_EVERY: Final = 50
"""Every so many messages one is good."""
FLIGHT: Final = 200
DRAINED_S: Final = 900.0
TRIED_S: Final = 3_600.0
"""A machine that others use takes many times as long as an idle one, which needs three minutes."""
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

    def try_every_operation(self, examples: int) -> None:
        """Let schemathesis try the published document, and note what it says."""
        # The key is in a file: a command line is read by everybody on the machine.
        bearer = f"Bearer {self._system.api_key}"
        (DIRECTORY / "schemathesis.toml").write_text(
            f'[headers]\nAuthorization = "{bearer}"\n', encoding="utf-8"
        )
        with (DIRECTORY / "schemathesis.log").open("w+", encoding="utf-8") as said:
            told, is_well = self._tried(examples, said)
        self.verdict.note("schemathesis: no 5xx, nothing undocumented", told, is_well=is_well)

    def _tried(self, examples: int, said: TextIO) -> tuple[str, bool]:
        """Return what schemathesis counted, and whether it found nothing and ended in time."""
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(DOCUMENT)),
            *("--url", self._system.http_url, "--checks", CHECKS),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
            *("--exclude-operation-id", "follow_events"),
            *("--suppress-health-check", "all", "--seed", str(SEED)),
            *("--no-color", "--continue-on-failure"),
        ]
        try:
            done = subprocess.run(
                command,
                cwd=DIRECTORY,
                env={**self._environment, "PYTHONWARNINGS": "ignore"},
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=TRIED_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"not done in {TRIED_S:.0f} s", False
        said.seek(0)
        lines = [line.strip() for line in said if "generated" in line.lower()]
        return lines[-1] if lines else "see schemathesis.log", done.returncode == 0

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
    with private_servers(directory, upstream_users=(CLIENT,)) as (stack, environment):
        system = System(environment=environment, directory=directory, instances=MOVING_MONEY)
        system.start()
        upstream_url = stack.rabbitmq.upstream_url(CLIENT)
        if upstream_url is None:
            raise SystemExit("the private broker has no upstream user")
        attack = Attack(system, environment, upstream_url)
        before = {name: system.pid(name) for name in system.status_urls}
        try:
            asyncio.run(attack.send(options.messages))
            attack.try_every_operation(options.examples)
            attack.verify()
            after = {name: system.pid(name) for name in system.status_urls}
            told = "all" if before == after else str({k for k in before if before[k] != after[k]})
            attack.verdict.note("processes that never ended", told, is_well=before == after)
        finally:
            system.stop()
    attack.verdict.end(("what", "measured", ""), otherwise=f"NOT WELL; logs are in {DIRECTORY}")


if __name__ == "__main__":
    main()
