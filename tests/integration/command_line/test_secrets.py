"""No command tells a password or a key, whatever it cannot reach and however it fails."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.integration.command_line.calling import CLOSED_PORT, Called, ackledger
from tools.stack import Stack

pytestmark = pytest.mark.long

_PASSWORD: Final = "pass-w0rd-told-to-nobody"
_KEY: Final = "ack_" + "Zk3-_q" * 7 + "x"
_ID: Final = "01a1fdec-fc76-7cb0-8001-aa29c657a02e"
_AT_ONCE: Final = 6
"""Most of them wait for somebody who does not answer."""

_NOWHERE: Final = {
    "DATABASE_URL": f"postgresql://ledger:{_PASSWORD}@127.0.0.1:{CLOSED_PORT}/books",
    "AMQP_URL": f"amqp://ledger:{_PASSWORD}@127.0.0.1:{CLOSED_PORT}/",
    "REDIS_URL": f"redis://:{_PASSWORD}@127.0.0.1:{CLOSED_PORT}/0",
    "ACKLEDGER_URL": f"http://127.0.0.1:{CLOSED_PORT}",
    "ACKLEDGER_API_KEY": _KEY,
    "ACKLEDGER_UPSTREAM_AMQP_URL": f"amqp://demo:{_PASSWORD}@127.0.0.1:{CLOSED_PORT}/",
    "ACKLEDGER_AMQP_MANAGEMENT_URL": f"http://a:{_PASSWORD}@127.0.0.1:{CLOSED_PORT}",
}
_COMMANDS: Final = (
    ("run",),
    ("demo",),
    ("stack", "up"),
    ("migrate",),
    ("migrate", "--check"),
    ("serve", "ingress", "--help"),
    ("api-keys", "create", "--client", "shop", "--all-scopes"),
    ("api-keys", "list", "--json"),
    ("api-keys", "revoke", _KEY),
    ("submit", "--type", "deposit", "--amount", "1", "--currency", "EUR", "--destination", _ID),
    ("show", _ID, "--json"),
    ("show", _KEY),
    ("watch",),
    ("verify", "--json"),
    ("dead-letters", "list", "--json"),
    ("dead-letters", "show", _ID),
    ("dead-letters", "replay", "--all"),
    ("reconcile", "--once", "--json"),
    ("replay-file", "FILE", "--via", "http"),
    ("replay-file", "FILE", "--via", "amqp", "--json"),
)


async def _told(
    directory: Path, commands: tuple[tuple[str, ...], ...], variables: dict[str, str]
) -> list[tuple[str, str]]:
    """Call commands that must fail, and return those that told a secret, with what they said."""
    file = directory.parent / "transactions.jsonl"
    file.write_text(
        f'{{"idempotency_key":"1","type":"deposit","amount":"1","currency":"EUR",'
        f'"destination_wallet_id":"{_ID}"}}\n'
    )
    turns = asyncio.Semaphore(_AT_ONCE)

    async def call(number: int, arguments: tuple[str, ...]) -> tuple[str, Called]:
        filled = [str(file) if one == "FILE" else one for one in arguments]
        async with turns:
            own = directory.parent / f"{number}" / ".local"
            own.parent.mkdir()
            return " ".join(arguments), await ackledger(*filled, directory=own, variables=variables)

    called = await asyncio.gather(*(call(n, one) for n, one in enumerate(commands)))
    assert [name for name, one in called if one.code == 0 and "--help" not in name] == []
    return [
        (name, one.out + one.err)
        for name, one in called
        if _PASSWORD in one.out + one.err or _KEY in one.out + one.err
    ]


async def test_no_command_tells_the_secrets_of_what_it_cannot_reach(directory: Path) -> None:
    assert await _told(directory, _COMMANDS, _NOWHERE) == []


async def test_no_command_tells_a_password_that_was_refused(directory: Path, stack: Stack) -> None:
    ports = {**stack.postgres.ports, **stack.rabbitmq.ports, **stack.redis.ports}
    refused = {
        **_NOWHERE,
        "DATABASE_URL": f"postgresql://ledger:{_PASSWORD}@127.0.0.1:{ports['postgres']}/books",
        "AMQP_URL": f"amqp://ledger:{_PASSWORD}@127.0.0.1:{ports['amqp']}/",
        "REDIS_URL": f"redis://:{_PASSWORD}@127.0.0.1:{ports['redis']}/0",
        "ACKLEDGER_UPSTREAM_AMQP_URL": f"amqp://demo:{_PASSWORD}@127.0.0.1:{ports['amqp']}/",
    }
    commands = tuple(one for one in _COMMANDS if one[0] in {"run", "migrate", "reconcile", "stack"})

    assert await _told(directory, (*commands, _COMMANDS[-1]), refused) == []


@pytest.mark.parametrize(
    "variable", [name for name in _NOWHERE if name.endswith("_URL") and name != "ACKLEDGER_URL"]
)
async def test_no_command_repeats_a_url_that_is_none(directory: Path, variable: str) -> None:
    broken = _NOWHERE[variable].replace(f":{CLOSED_PORT}", ":none")
    commands = (("run",), ("migrate",), _COMMANDS[-1])

    assert await _told(directory, commands, {**_NOWHERE, variable: broken}) == []
