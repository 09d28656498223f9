"""A long book is upgraded under traffic: `make migrate-proof BASE=<commit> TRANSACTIONS=2000000`.

    python -m tools.upgrade OTHER --transactions 2000000

OTHER is a checkout of the older release with an environment in `.venv`. Its processes serve a book
of so many transfers; clients submit transfers all the time; this checkout migrates the tables; its
processor and reconciler take their turn beside the old ones, then its ingress does; the old ones
are stopped. It is well (exit 0) if every submission was accepted in the end, each was posted once,
`verify` is clean, and nobody waited for longer than WAIT_MAX_S because of the migrations.
"""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from cli.dependencies import Connection
from cli.output import print_table, say
from runtime.postgres.pool import connect
from tools.bench.cases.growth import lay_history
from tools.bench.draining import waiting
from tools.bench.ground import Ground, fresh_ground
from tools.bench.laying import make_wallets
from tools.proving import where_programs_are
from tools.stack import StackMode, StackOptions, start_stack
from tools.stack.ports import PortClaims
from tools.system import CLIENT
from tools.upgrade.traffic import Traffic
from tools.upgrade.tree import Tree

HERE: Final = Path(__file__).resolve().parents[2]
DIRECTORY: Final = Path(".local/upgrade")
WALLETS: Final = 10_000
RATE_PER_S: Final = 50.0
PHASE_S: Final = 20.0
"""For what happens by the side of others: long enough for a few hundred submissions."""
WAIT_MAX_S: Final = 3.0
"""A migration's try takes a second at most, in which traffic may stand; the rest is the machine."""
READY_BOUND_S: Final = 60.0
DRAIN_BOUND_S: Final = 120.0
_LAID_SHOWN_EVERY: Final = 200_000
_POLL_S: Final = 0.2
_DRAIN_POLL_S: Final = 2.0
"""What waits is counted over the whole book."""
_OK: Final = 200


@dataclass(slots=True)
class Ports:
    """Free ports for processes that run side by side."""

    claims: PortClaims

    def of(self, module: str) -> dict[str, str]:
        """Return the settings that give a process its own ports."""
        own = {"ACKLEDGER_STATUS_PORT": str(self.claims.claim_any())}
        if module == "ingress":
            own["ACKLEDGER_HTTP_PORT"] = str(self.claims.claim_any())
        return own


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Two checkouts on one ground, and the clients."""

    old: Tree
    new: Tree
    traffic: Traffic
    ports: Ports

    async def run(self, connection: Connection) -> float:
        """Upgrade as docs/operations.md has it; returns how long the migrations took, in s."""
        with ExitStack() as after, ExitStack() as before:
            old = await self._start(before, self.old, ("ingress", "processor", "reconciler"))
            self.traffic.urls = old
            async with self.traffic.flowing():
                await self._phase("old release")
                self.traffic.phase_name = "migrating"
                began = time.monotonic()
                say((await asyncio.to_thread(self.new.command, "migrate")).strip())
                took_s = time.monotonic() - began
                await self._phase("old release, new tables")
                await asyncio.to_thread(self.new.command, "keys", "rotate")
                new = await self._start(after, self.new, ("processor", "reconciler", "ingress"))
                self.traffic.urls = [*old, *new]
                await self._phase("side by side")
                self.traffic.urls = new
                self.traffic.phase_name = "new release"
                await asyncio.to_thread(before.close)
                await self._phase("new release")
            await _drained(connection)
        return took_s

    async def _phase(self, name: str) -> None:
        self.traffic.phase_name = name
        await asyncio.sleep(PHASE_S)

    async def _start(self, exits: ExitStack, tree: Tree, modules: Sequence[str]) -> Sequence[str]:
        """Start processes and return the ingress's address when all are ready."""
        settings = {module: self.ports.of(module) for module in modules}
        log = DIRECTORY.absolute() / f"{tree.name}.log"
        exits.enter_context(tree.processes(log, settings))
        for module in modules:
            await _await_ready(f"http://127.0.0.1:{settings[module]['ACKLEDGER_STATUS_PORT']}")
        return [f"http://127.0.0.1:{settings['ingress']['ACKLEDGER_HTTP_PORT']}"]


async def _await_ready(url: str) -> None:
    async with asyncio.timeout(READY_BOUND_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/readyz") as response:
                    if response.status == _OK:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(_POLL_S)


async def _drained(connection: Connection) -> None:
    async with asyncio.timeout(DRAIN_BOUND_S):
        while True:
            if not await waiting(connection):
                return
            await asyncio.sleep(_DRAIN_POLL_S)


async def prove(base: Path, ground: Ground, transactions: int) -> bool:
    """Lay the book with the older release, upgrade it, and say whether all is well."""
    environment = {
        **ground.stack.urls,
        "DATABASE_URL": ground.database_url,
        "AMQP_URL": ground.amqp_url,
        "ACKLEDGER_SEAL_KEYS": str(DIRECTORY.absolute() / "keys"),
        # Programs of either release that are found by the PATH.
        **where_programs_are(),
    }
    old, new = Tree("old", base, environment), Tree("new", HERE, environment)
    say((await asyncio.to_thread(old.command, "migrate")).strip())
    key = old.command("api-keys", "create", "--client", CLIENT, "--all-scopes").strip()
    connection = await connect(ground.database_url, name="upgrade")
    wallets = (await make_wallets(connection, rich=WALLETS, poor=0)).rich
    laid = await lay_history(connection, transactions, WALLETS, step=_show_laid)
    traffic = Traffic(wallets, rate_per_s=RATE_PER_S, api_key=key)
    with _ports() as ports:
        took_s = await Upgrade(old, new, traffic, ports).run(connection)
    await connection.close()
    return _report(traffic, new.verify(), laid=laid, took_s=took_s)


@contextmanager
def _ports() -> Iterator[Ports]:
    claims = PortClaims()
    try:
        yield Ports(claims)
    finally:
        claims.release()


def _report(traffic: Traffic, verified: dict[str, object], *, laid: int, took_s: float) -> bool:
    print_table(
        ("phase", "submissions", "p50 ms", "p99 ms", "longest ms", "sent again"),
        [phase.row(name) for name, phase in traffic.phases.items()],
    )
    expected = laid + traffic.accepted
    longest_s = max(traffic.phases["migrating"].waits_ms, default=0.0) / 1000
    verdicts = {
        f"{expected:,} transactions, {verified['transactions']:,} in the book": (
            verified["transactions"] == expected
        ),
        f"verify: {'clean' if verified['clean'] else verified['findings']}": bool(
            verified["clean"]
        ),
        f"longest wait while migrating {longest_s:.1f} s, at most {WAIT_MAX_S:g} s": (
            longest_s <= WAIT_MAX_S
        ),
    }
    say(f"migrations took {took_s:.1f} s")
    for sentence, is_well in verdicts.items():
        say(f"{'well' if is_well else 'NOT WELL'}: {sentence}")
    return all(verdicts.values())


def _show_laid(transactions: int) -> None:
    if transactions % _LAID_SHOWN_EVERY == 0:
        say(f"history: {transactions:,} transfers")


async def _run(base: Path, transactions: int) -> bool:
    options = StackOptions(directory=DIRECTORY.absolute(), mode=StackMode.LOCAL)
    with start_stack(options) as stack:
        async with fresh_ground(stack) as ground:
            return await prove(base, ground, transactions)


def main() -> None:
    """Exit 0 if all is well, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path, help="a checkout with an environment in .venv")
    parser.add_argument("--transactions", type=int, default=2_000_000)
    options = parser.parse_args()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    sys.exit(0 if asyncio.run(_run(options.base.resolve(), options.transactions)) else 1)


if __name__ == "__main__":
    main()
