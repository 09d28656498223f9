"""Two disasters and three restores: `make restore-drill TRANSACTIONS=100000`.

    python -m tools.restore_drill --transactions 100000 [--disasters 1]

Clients submit half of the transactions, a base is taken while WAL is followed, they submit the
rest; then PostgreSQL is killed and its data directory removed. It is restored to the last WAL, and
everything that was accepted must be there up to RPO_MAX_S before the disaster; then once more to a
moment in the middle: all that was accepted before it is there, nothing after. Clients send what was
lost again and as much of new, and PostgreSQL is destroyed a second time: the last WAL of its new
timeline has to restore what was accepted on it. One `backup --follow` runs through all of it.
`verify` is clean each time. Prints what was lost, and how long it took. Exit 0 if all is well.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import aiohttp
import orjson

from cli.launching import with_our_code
from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from tools.proving import Verdict, private_servers
from tools.stack import Stack
from tools.stack.backups import backups_of
from tools.stack.postgres import PrivatePostgres
from tools.system import MOVING_MONEY, System

DIRECTORY: Final = Path(".local/restore-drill")
BATCH: Final = 500
IN_FLIGHT: Final = 4
RPO_MAX_S: Final = 5.0
RTO_MAX_S: Final = {1_000_000: 300.0, 10_000_000: 900.0}
"""By how many transactions there are, at most."""
CUT: Final = "seal_chain"
"""What `verify` finds of a chain that ends before a seal that was written down."""
BYTES_OF_A_TRANSACTION: Final = 8_000
"""On the disk in the end, at most: data, a base, all of the WAL, and the log of events."""
DISASTERS: Final = 2
DRAINED_S: Final = 600.0
RECOVERED_S: Final = 900.0
_POLL_S: Final = 0.2


@dataclass
class Accepted:
    """What clients were told: keys, with the moment at which their 202 had come."""

    moments: dict[str, float] = field(default_factory=dict)

    def before(self, moment: float) -> set[str]:
        """Return the keys that were accepted by a moment."""
        return {key for key, at in self.moments.items() if at <= moment}


class Clients:
    """Submit transfers in batches, a few at a time."""

    def __init__(self, system: System, accepted: Accepted) -> None:
        self._url = system.http_url
        self._headers = {"Authorization": f"Bearer {system.api_key}"}
        self._accepted = accepted

    async def submit(self, transactions: int) -> None:
        """Submit so many new ones."""
        await self.submit_keys([str(uuid4()) for _ in range(transactions)])

    async def submit_keys(self, keys: Sequence[str]) -> None:
        """Submit a transfer under each key."""
        async with aiohttp.ClientSession(self._url, headers=self._headers) as session:
            wallets = [await self._wallet(session) for _ in range(2)]
            turns = iter([keys[first : first + BATCH] for first in range(0, len(keys), BATCH)])
            await asyncio.gather(*(self._worker(session, wallets, turns) for _ in range(IN_FLIGHT)))

    async def _wallet(self, session: aiohttp.ClientSession) -> str:
        body = {"currency": "USD", "overdraft_limit": "10000000.00"}
        async with session.post("/v1/wallets", json=body) as response:
            return str((await response.json())["id"])

    async def _worker(
        self,
        session: aiohttp.ClientSession,
        wallets: Sequence[str],
        turns: Iterator[Sequence[str]],
    ) -> None:
        for keys in turns:
            items = [
                {
                    "idempotency_key": key,
                    "type": "transfer",
                    "source_wallet_id": wallets[0],
                    "destination_wallet_id": wallets[1],
                    "amount": "0.01",
                    "currency": "USD",
                }
                for key in keys
            ]
            async with session.post(
                "/v1/transactions/batch",
                data=orjson.dumps({"transactions": items}),
                headers={"Content-Type": "application/json"},
            ) as response:
                response.raise_for_status()
                await response.read()
            now = time.time()
            self._accepted.moments.update(dict.fromkeys(keys, now))


class Drill:
    """One stack, one system, and the commands as an operator types them."""

    def __init__(self, stack: Stack, environment: Mapping[str, str]) -> None:
        if not isinstance(stack.postgres, PrivatePostgres):
            raise SystemExit("the drill destroys its own PostgreSQL, and no other")
        self.postgres = stack.postgres
        self.environment = {**environment, **backups_of(stack)}
        self.verdict = Verdict()

    def command(self, *arguments: str, is_checked: bool = True) -> str:
        """Run `ackledger`, and return what it printed."""
        return subprocess.run(
            self._arguments(arguments),
            env=with_our_code(self.environment),
            stdout=subprocess.PIPE,
            check=is_checked,
            text=True,
        ).stdout

    @contextmanager
    def following(self) -> Iterator[None]:
        """Have `ackledger backup --follow` run."""
        follower = subprocess.Popen(
            self._arguments(["backup", "--follow"]), env=with_our_code(self.environment)
        )
        try:
            yield
        finally:
            follower.terminate()
            follower.wait()

    def destroy(self) -> None:
        """Kill PostgreSQL and remove its data."""
        self.postgres.kill()
        shutil.rmtree(self.postgres.data)

    def restore(self, to: str) -> None:
        """Restore as an operator does, and return when the server takes writes."""
        self.command("restore", "--to", to, "--into", str(self.postgres.data))
        self.postgres.start()
        asyncio.run(self._no_longer("is_recovering", RECOVERED_S))

    def lost_since(self, moment: str) -> set[str]:
        """Return the keys that the command lists to be sent again."""
        keys: set[str] = set()
        behind: tuple[str, ...] = ()
        while True:
            arguments = ("restore", "--to", moment, "--lost", "--json", *behind)
            listed = json.loads(self.command(*arguments, is_checked=False))
            keys |= {one["idempotency_key"] for one in listed["items"]}
            if listed["after"] is None:
                return keys
            behind = ("--after", str(listed["after"]))

    def accept_cut(self) -> None:
        """Let the seals go on from where the restored ones end, as an operator does."""
        (self.postgres.seal_keys / "latest").unlink(missing_ok=True)

    async def keys(self) -> set[str]:
        """Return the idempotency keys that are in the books."""
        connection = await connect(self.environment["DATABASE_URL"], name="drill")
        try:
            rows = await connection.fetch(load_queries("tools")["list_keys"])
        finally:
            await connection.close()
        return {row["idempotency_key"] for row in rows}

    async def drained(self) -> None:
        """Return when nothing waits for posting, and every event is in the log."""
        await self._no_longer("is_busy", DRAINED_S)

    def verify(self, what: str, *, is_cut: bool = False) -> None:
        """Prove the books; `is_cut`: the seals have to say that later ones are missing."""
        report = json.loads(self.command("verify", "--json", is_checked=False))
        checks = {one["check"] for one in report["findings"]}
        is_well = checks <= {CUT} if is_cut else not checks
        told = ", ".join(sorted(checks)) or "clean"
        self.verdict.note(f"{what}: verify finds", told, "no more:", is_well=is_well)

    async def _no_longer(self, query: str, bound_s: float) -> None:
        """Return when a query says no; raises TimeoutError."""
        connection = await connect(self.environment["DATABASE_URL"], name="drill")
        try:
            async with asyncio.timeout(bound_s):
                # Another program's state: there is nothing to wait for but time.
                while await connection.fetchval(load_queries("tools")[query]):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        finally:
            await connection.close()

    @staticmethod
    def _arguments(arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-P", "-m", "cli", *arguments]


def _rehearse(drill: Drill, system: System, transactions: int, *, disasters: int) -> None:
    accepted = Accepted()
    clients = Clients(system, accepted)
    asyncio.run(clients.submit(transactions // 2))
    drill.command("backup")
    asyncio.run(clients.submit(transactions // 4))
    asyncio.run(drill.drained())
    middle = time.time()
    time.sleep(1.0)
    asyncio.run(clients.submit(transactions // 4))
    _lose_all(drill, system, accepted, "latest", transactions)
    system.stop()
    drill.destroy()
    moment = datetime.fromtimestamp(middle, tz=UTC).isoformat()
    drill.restore(moment)
    after = _judge_middle(drill, accepted, middle)
    if disasters < DISASTERS:
        return
    drill.accept_cut()
    system.start()
    clients = Clients(system, accepted)
    asyncio.run(clients.submit_keys(sorted(after)))
    asyncio.run(clients.submit(transactions // 4))
    lost = _lose_all(drill, system, accepted, "latest, after that moment", transactions)
    unsent = drill.lost_since(moment) - lost
    drill.verdict.note(
        "latest, after that moment: listed to be sent again, though it was",
        f"{len(unsent):,}",
        "none:",
        is_well=not unsent,
    )


def _lose_all(
    drill: Drill, system: System, accepted: Accepted, what: str, transactions: int
) -> set[str]:
    """Destroy PostgreSQL and restore its last WAL; return the keys that were lost by it."""
    disaster = time.time()
    drill.destroy()
    began = time.monotonic()
    drill.restore("latest")
    asyncio.run(_served(system))
    took_s = time.monotonic() - began
    asyncio.run(drill.drained())
    there = asyncio.run(drill.keys())
    lost = {key: at for key, at in accepted.moments.items() if key not in there}
    lost_s = disaster - min(lost.values()) if lost else 0.0
    drill.verdict.note(f"{what}: accepted before the disaster", f"{len(accepted.moments):,}")
    drill.verdict.note(
        f"{what}: lost, and since when before it",
        f"{len(lost):,}, {lost_s:.1f} s",
        f"≤ {RPO_MAX_S:g} s:",
        is_well=lost_s <= RPO_MAX_S,
    )
    bound_s = next((one for count, one in RTO_MAX_S.items() if transactions <= count), RECOVERED_S)
    drill.verdict.note(
        f"{what}: from the disaster to 202 again",
        f"{took_s:.1f} s",
        f"≤ {bound_s:g} s:",
        is_well=took_s <= bound_s,
    )
    drill.verify(what)
    return set(lost)


def _judge_middle(drill: Drill, accepted: Accepted, middle: float) -> set[str]:
    """Return the keys that came after the moment, which are to be sent again."""
    there = asyncio.run(drill.keys())
    expected = accepted.before(middle)
    drill.verdict.note(
        "a moment: what was accepted before it, is there",
        f"{len(expected & there):,} of {len(expected):,}",
        "all:",
        is_well=expected <= there,
    )
    after = set(accepted.moments) - expected
    drill.verdict.note(
        "a moment: what came after it, is there",
        f"{len(after & there):,} of {len(after):,}",
        "none:",
        is_well=not after & there,
    )
    drill.verify("a moment", is_cut=True)
    named = drill.lost_since(datetime.fromtimestamp(middle, tz=UTC).isoformat())
    drill.verdict.note(
        "a moment: listed to be sent again",
        f"{len(named & after):,} of {len(after):,}",
        "all:",
        is_well=after <= named,
    )
    return after


async def _served(system: System) -> None:
    """Return when the ingress accepts again."""
    async with asyncio.timeout(RECOVERED_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{system.http_url}/readyz") as response:
                    if response.status == 200:  # noqa: PLR2004, ready
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(_POLL_S)


def _refuse_small_disk(directory: Path, transactions: int) -> None:
    """Say before an hour of work that the disk will not hold it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    needed, free = BYTES_OF_A_TRANSACTION * transactions, shutil.disk_usage(directory).free
    if needed > free:
        raise SystemExit(
            f"{transactions:,} transactions need about {needed / 1e9:,.0f} GB in {directory}, "
            f"and {free / 1e9:,.0f} GB are free"
        )


def main() -> None:
    """Exit 0 if all is well, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument(
        "--disasters", type=int, choices=(1, DISASTERS), default=DISASTERS, help="1 ends before 2"
    )
    options = parser.parse_args()
    transactions: int = options.transactions
    directory = DIRECTORY.absolute()
    _refuse_small_disk(directory, transactions)
    with private_servers(directory) as (stack, environment):
        drill = Drill(stack, environment)
        system = System(
            environment=drill.environment,
            directory=directory,
            instances=MOVING_MONEY,
            is_kept_up=True,
        )
        system.start()
        try:
            with drill.following():
                _rehearse(drill, system, transactions, disasters=options.disasters)
        finally:
            system.stop()
    drill.verdict.end(("what", "measured", "asked for"))


if __name__ == "__main__":
    main()
