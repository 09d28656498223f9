"""The notifier as a process: people confirm by its mails, and read of their money over HTTP."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingress.people.token_keys import TokenKeys
from tests.integration.command_line.calling import Called, ackledger
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.notifier.postbox import Postbox
from tests.integration.people.persons import PASSWORD, People, Person, new_email
from tests.support import deposit, eventually, transfer
from tools.stack import Stack
from tools.system import ONE_OF_EACH, Role

pytestmark = pytest.mark.long

SENDER = "no-reply@ledger.example"


@pytest.fixture(scope="module")
async def letterbox() -> AsyncIterator[Postbox]:
    """The SMTP server of the system."""
    async with Postbox() as box:
        yield box


@pytest.fixture(scope="module")
async def doors(
    stack: Stack,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    letterbox: Postbox,
) -> AsyncIterator[CheckedDoors]:
    """A whole system, its notifier included."""
    keys = tmp_path_factory.mktemp("keys") / "tokens"
    TokenKeys(keys).rotate(datetime.now(tz=UTC))
    settings = {
        "ACKLEDGER_TOKEN_KEYS": str(keys),
        "ACKLEDGER_FIRST_WALLET_CURRENCY": "EUR",
        "ACKLEDGER_SMTP_URL": letterbox.url,
        "ACKLEDGER_MAIL_FROM": SENDER,
        "ACKLEDGER_NOTIFY_MONEY": "true",
    }
    directory = tmp_path_factory.mktemp("system")
    async with open_doors(
        stack, template, directory, instances=ONE_OF_EACH, settings=settings
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
async def people(doors: CheckedDoors) -> AsyncIterator[People]:
    """The door that people come through."""
    async with CheckedApi(doors.system.http_url, None) as nobody:
        yield People(doors, nobody)


async def _mailed(letterbox: Postbox, email: str, subject: str) -> str:
    async def look() -> str | None:
        found = [one for one in letterbox.mails if (one["To"], one["Subject"]) == (email, subject)]
        return found[-1].get_content() if found else None

    return await eventually(look, what=f"a mail '{subject}'")


async def _notifications(person: Person, count: int) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        page = (await person.call("GET", "/v1/users/me/notifications")).json["items"]
        money: list[dict[str, Any]] = [one for one in page if one["kind"].startswith("money")]
        return money if len(money) >= count else []

    return await eventually(look, what=f"{count} notifications")


async def _wallet_of(person: Person) -> str:
    return str((await person.call("GET", "/v1/wallets")).json["items"][0]["id"])


async def test_people_confirm_by_mail_and_read_of_their_money(
    people: People, doors: CheckedDoors, letterbox: Postbox
) -> None:
    persons = []
    for _ in range(2):
        email = new_email()
        await people.post("register", email=email, password=PASSWORD)
        text = await _mailed(letterbox, email, "Confirm your address")
        found = re.search(r"ack_confirm_[\w-]{43}", text)
        assert found is not None
        assert (await people.post("confirm", token=found.group())).status == 200
        persons.append(await people.log_in(email))
    payer, payee = persons
    await payee.call("PATCH", "/v1/users/me", {"is_mail_wanted": True})
    source, destination = [
        row["id"]
        for person in persons
        for row in await people.fetch(
            "SELECT id FROM wallets WHERE owner_id = $1", str(await person.id())
        )
    ]
    await doors.api.submit(deposit(str(source), "20.00", "EUR"))
    await doors.api.submit(transfer(str(source), str(destination), "7.25", "EUR"))

    paid, received = await _notifications(payer, 2), await _notifications(payee, 1)
    assert [(one["kind"], one["body"]["amount"], one["body"]["balance"]) for one in paid] == [
        ("money_out", "7.25", "12.75"),
        ("money_in", "20.00", "20.00"),
    ]
    assert received[0]["body"]["type"] == "transfer"
    told = await _mailed(letterbox, payee.email, "You received money")
    assert f"7.25 EUR came into your wallet {destination}" in told
    assert not [
        one for one in letterbox.mails if one["To"] == payer.email and "oney" in one["Subject"]
    ]


async def test_the_log_names_no_address_and_no_token(
    people: People, doors: CheckedDoors, letterbox: Postbox
) -> None:
    email = new_email()
    await people.post("register", email=email, password=PASSWORD)
    await _mailed(letterbox, email, "Confirm your address")
    await asyncio.to_thread(doors.system.restart, Role.NOTIFIER)
    log = doors.system.log(Role.NOTIFIER).read_text(encoding="utf-8")

    assert '"mail_sent"' in log
    assert email.partition("@")[0] not in log
    assert "ack_confirm" not in log


async def _served(directory: Path, variables: dict[str, str]) -> Called:
    return await ackledger("serve", "notifier", directory=directory, variables=variables)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ACKLEDGER_ENV": "Production"}, "ACKLEDGER_SMTP_URL is not set"),
        ({"ACKLEDGER_SMTP_URL": "smtp://mail.example"}, "ACKLEDGER_MAIL_FROM is not set"),
        ({"ACKLEDGER_SMTP_URL": "http://u:secret@mail.example"}, "ACKLEDGER_SMTP_URL: expected"),
        ({"ACKLEDGER_MAIL_FROM": "a@b.example\r\nBcc: c@d.example"}, "ACKLEDGER_MAIL_FROM="),
    ],
)
async def test_it_does_not_start_with_a_way_to_lose_mails(
    tmp_path: Path, settings: dict[str, str], sentence: str
) -> None:
    servers = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "AMQP_URL": "amqp://127.0.0.1:1/"}
    called = await _served(tmp_path, {**servers, "ACKLEDGER_STATUS_PORT": "0", **settings})

    assert called.code == 2
    assert sentence in called.err
    assert "secret" not in called.err


@pytest.mark.parametrize("said", [{"ACKLEDGER_ENV": "development"}, {}])
async def test_without_a_server_mails_are_printed_only_where_development_is_said(
    stack: Stack, template: str, tmp_path: Path, said: dict[str, str]
) -> None:
    keys = tmp_path / "tokens"
    TokenKeys(keys).rotate(datetime.now(tz=UTC))
    settings = {"ACKLEDGER_TOKEN_KEYS": str(keys), **said}
    async with (
        open_doors(
            stack, template, tmp_path / "system", instances=ONE_OF_EACH, settings=settings
        ) as opened,
        CheckedApi(opened.system.http_url, None) as nobody,
    ):
        people = People(opened, nobody)
        email = new_email()
        await people.post("register", email=email, password=PASSWORD)

        async def sent() -> bool:
            return bool((await people.mails(email))[0]["sent_at"])

        await eventually(sent, what="the mail is dealt with")
        log = opened.system.log(Role.NOTIFIER).read_text(encoding="utf-8")
        token = await people.mailed_token(email)

    events = [line for line in log.splitlines() if '"mail_not_sent"' in line]
    assert len(events) == 1
    assert '"domain":"example.com"' in events[0].replace(": ", ":")
    assert token not in events[0]
    assert (token in log) is bool(said)
