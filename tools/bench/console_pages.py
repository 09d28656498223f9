"""How long the console takes for each of its pages over a long history: `make bench-console`.

A book of TRANSACTIONS transfers between 10,000 wallets and 20,000 dead letters are laid by plain
SQL, then a whole system with a console is started on it. An admin and a customer log in by the
form, and each page is asked for ROUNDS times, every page once a round, one request at a time: what
is told is from sending a request until the last octet of the page, over the loopback. The book
stays in `.local/bench-console`, and the next run measures on it.

    python -m tools.bench.console_pages [TRANSACTIONS] [ROUNDS]
"""

import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from ackledger.client.publishing import quiet_libraries
from cli.actor import login_actor
from cli.dependencies import Connection
from cli.output import print_table, say
from cli.users import ensure_user
from contracts.scopes import Role as PersonRole
from runtime.postgres.queries import load_queries
from tools.bench.cases.growth import lay_history
from tools.bench.ground import PATIENT, Ground, without_settings
from tools.bench.laying import make_wallets
from tools.bench.statistics import quantile
from tools.signing_keys import make_signing_keys
from tools.stack import Stack, StackMode, StackOptions, start_stack
from tools.system import CLIENT, ONE_OF_EACH, Role, System

DIRECTORY: Final = Path(".local/bench-console").absolute()
WALLETS: Final = 10_000
LETTERS: Final = 20_000
P95_MAX_MS: Final = 100.0
ADMIN: Final = "admin@bench.example"
CUSTOMER: Final = "customer@bench.example"
OWN_WALLETS: Final = 3
_SHOWN_EVERY: Final = 500_000
_OK: Final = 200
_SETTINGS: Final = {
    **PATIENT,
    "ACKLEDGER_HTTP_PORT": "0",
    "ACKLEDGER_STATUS_PORT": "0",
    "ACKLEDGER_CONSOLE_PORT": "0",
    "ACKLEDGER_RATE_LIMITS": "login=none anonymous=none authenticated=none",
    "ACKLEDGER_TRUSTED_PROXIES": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A page as somebody asks for it."""

    who: str
    name: str
    path: str


class Person:
    """Somebody's browser."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def log_in(self, email: str, password: str) -> None:
        """Log in by the form; raises SystemExit where that is refused."""
        fields, headers = {"email": email, "password": password}, {"Origin": self._url}
        async with self._session.post(
            f"{self._url}/login", data=fields, headers=headers
        ) as response:
            if response.status != _OK:
                raise SystemExit(f"{email} is not let in: {await response.text()}")

    async def open(self, path: str) -> tuple[float, str]:
        """Return how long a page took, in ms, and its text; raises SystemExit for any other."""
        began = time.perf_counter()
        async with self._session.get(self._url + path) as response:
            text = await response.text()
        took_ms = (time.perf_counter() - began) * 1000
        if response.status != _OK:
            raise SystemExit(f"{path}: {response.status}")
        return took_ms, text


async def _lay(connection: Connection, transactions: int) -> None:
    """Add what the book lacks."""
    sql = load_queries("tools.bench")
    there: int = await connection.fetchval(sql["count_customer_wallets"])
    if there < WALLETS:
        await make_wallets(connection, rich=WALLETS - there, poor=0)

    def shown(laid: int) -> None:
        if laid % _SHOWN_EVERY < WALLETS:
            say(f"  {laid:,} of {transactions:,} transactions laid")

    await lay_history(connection, transactions, WALLETS, step=shown)
    await connection.execute(sql["lay_dead_letters"], LETTERS, CLIENT)


async def _people(connection: Connection) -> Mapping[str, str]:
    """Make an admin and a customer with wallets of a long history; return their passwords."""
    passwords = {}
    for email, role in ((ADMIN, PersonRole.ADMIN), (CUSTOMER, PersonRole.CUSTOMER)):
        passwords[email] = await ensure_user(
            connection, email=email, role=role, known=None, actor=login_actor()
        )
    await connection.execute(load_queries("tools.bench")["give_wallets"], CUSTOMER, OWN_WALLETS)
    return passwords


async def _pages(admin: Person, customer: Person) -> list[Seen]:
    """Return every page to be asked for, with ids that the lists have."""
    wallet = await _first(customer, "/wallets", r'href="/wallets/([0-9a-f-]{36})"')
    transaction = await _first(
        customer, f"/wallets/{wallet}", r'href="/transactions/([0-9a-f-]{36})"'
    )
    letter = await _first(admin, "/dead-letters", r'href="/dead-letters/([0-9a-f-]{36})"')
    shared = {
        "wallets": "/wallets",
        "wallet": f"/wallets/{wallet}",
        "history of a wallet": f"/wallets/{wallet}/history?type=transfer&from=2020-01-01",
        "holds of a wallet": f"/wallets/{wallet}/holds",
        "transaction": f"/transactions/{transaction}",
        "receipt": f"/transactions/{transaction}/receipt",
        "webhooks": "/webhooks",
        "account": "/account",
    }
    operators = {
        "overview": "/operations",
        "figures of the charts": "/operations/figures.json",
        "transactions": "/transactions",
        "transactions, COMPLETED": "/transactions?status=COMPLETED",
        "transactions, FAILED": "/transactions?status=FAILED",
        "transactions of one wallet": f"/transactions?q={wallet}",
        "transactions by key": "/transactions?q=unknown&submitter=history",
        "dead letters": "/dead-letters",
        "dead letters of one reason": "/dead-letters?reason=not_json",
        "dead letter": f"/dead-letters/{letter}",
        "reviews": "/reviews",
        "audit log": "/audit",
    }
    return [
        *(Seen("customer", name, path) for name, path in shared.items()),
        *(Seen("admin", name, path) for name, path in {**operators, **shared}.items()),
    ]


async def _first(person: Person, path: str, pattern: str) -> str:
    _, text = await person.open(path)
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"{path} shows none")
    return found[1]


async def _measure(system: System, passwords: Mapping[str, str], rounds: int) -> bool:
    url = system.console_url or ""
    found: dict[Seen, list[float]] = defaultdict(list)
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as one,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as other,
    ):
        people = {"admin": Person(url, one), "customer": Person(url, other)}
        await people["admin"].log_in(ADMIN, passwords[ADMIN])
        await people["customer"].log_in(CUSTOMER, passwords[CUSTOMER])
        pages = await _pages(people["admin"], people["customer"])
        for _ in range(rounds):
            for page in pages:
                took_ms, _text = await people[page.who].open(page.path)
                found[page].append(took_ms)
    return _told(found)


def _told(found: Mapping[Seen, Sequence[float]]) -> bool:
    rows, is_well = [], True
    for page, samples in found.items():
        ordered = sorted(samples)
        p95 = quantile(ordered, 0.95)
        is_well &= p95 <= P95_MAX_MS
        rows.append(
            (
                page.who,
                page.name,
                f"{quantile(ordered, 0.5):.1f}",
                f"{p95:.1f}",
                f"{ordered[-1]:.1f}",
            )
        )
    print_table(("who", "page", "p50 ms", "p95 ms", "most ms"), rows)
    say(f"every p95 is {'within' if is_well else 'NOT within'} {P95_MAX_MS:g} ms")
    return is_well


async def _run(stack: Stack, transactions: int, rounds: int) -> bool:
    ground = Ground(
        stack, stack.urls["DATABASE_URL"], stack.urls["AMQP_URL"], stack.upstream_url(CLIENT) or ""
    )
    await ground.migrate(_SETTINGS)
    began = time.monotonic()
    async with ground.books() as connection:
        await _lay(connection, transactions)
        said: int = await connection.fetchval(load_queries("tools.bench")["count_history"])
        say(f"{said:,} transactions are there after {time.monotonic() - began:.0f} s")
        passwords = await _people(connection)
    system = System(
        environment={
            **without_settings(os.environ),
            **make_signing_keys(stack),
            **stack.urls,
            **_SETTINGS,
        },
        directory=DIRECTORY / "system",
        instances=[one for one in ONE_OF_EACH if one.role is not Role.NOTIFIER],
        say=lambda _: None,
    )
    async with system:
        return await _measure(system, passwords, rounds)


def main() -> int:
    """Measure on private servers; exit 1 where a page is slower than it may be."""
    arguments = [int(one) for one in sys.argv[1:]]
    transactions, rounds = (*arguments, *(10_000_000, 50)[len(arguments) :])
    quiet_libraries()
    options = StackOptions(
        directory=DIRECTORY,
        mode=StackMode.LOCAL,
        upstream_users=(CLIENT,),
        environment=dict(os.environ),
    )
    with start_stack(options) as stack:
        return 0 if uvloop.run(_run(stack, transactions, rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
