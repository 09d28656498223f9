"""`ackledger clients`: broker users that publish and nothing else, and the rows that bound them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import aiormq
import orjson
import pytest

from cli.actor import login_actor
from cli.clients.management import Management
from contracts import topology
from contracts.broker_permissions import UPSTREAM
from runtime.postgres.pool import connect
from tests.conftest import Connection
from tests.integration.command_line.calling import Called, ackledger
from tests.support import Upstream
from tools.stack import Stack

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Site:
    """A terminal that knows the servers, and a name that no other test uses."""

    directory: Path
    variables: dict[str, str]
    management: Management
    name: str

    async def call(self, *arguments: str) -> Called:
        """Call `ackledger clients`."""
        return await ackledger(
            "clients", *arguments, directory=self.directory, variables=self.variables
        )

    def url(self, password: str) -> str:
        """Return where the client publishes."""
        host = self.variables["AMQP_URL"].rpartition("@")[2]
        return f"amqp://{self.name}:{password}@{host}"


@pytest.fixture
async def site(
    directory: Path, stack: Stack, broker_url: str, database_url: str
) -> AsyncIterator[Site]:
    """A migrated database, a virtual host with its topology, and the management API."""
    management_url = stack.rabbitmq.management_url or ""
    variables = {
        "DATABASE_URL": database_url,
        "AMQP_URL": broker_url,
        "ACKLEDGER_AMQP_MANAGEMENT_URL": management_url,
    }
    management = Management(management_url)
    site = Site(directory, variables, management, f"shop-{uuid4().hex[:8]}")
    yield site
    await asyncio.to_thread(management.delete_user, site.name)


async def test_the_password_stands_alone_on_standard_output_and_opens_the_broker(
    site: Site,
) -> None:
    called = await site.call("create", site.name)

    assert called.code == 0, called.err
    password = called.out.strip()
    assert len(password) == 43
    assert password not in called.err
    async with Upstream(site.url(password), user=site.name) as upstream:
        await upstream.publish(b"{}")


async def test_a_client_may_publish_transactions_and_nothing_else(site: Site) -> None:
    password = (await site.call("create", site.name)).out.strip()

    async with await aio_pika.connect(site.url(password)) as connection:
        for exchange in ("", topology.EVENTS_EXCHANGE, topology.DEAD_LETTERS):
            channel = await connection.channel()
            with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
                await (await channel.get_exchange(exchange, ensure=False)).publish(
                    aio_pika.Message(b"{}"), routing_key=topology.partition_queue(0)
                )
        for queue in (topology.partition_queue(0), topology.DEAD_LETTERS):
            channel = await connection.channel()
            with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
                await (await channel.get_queue(queue, ensure=False)).get(fail=False)
        for name in (site.name, f"{site.name}.results", "ackledger.mine"):
            channel = await connection.channel()
            with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
                await channel.declare_queue(name)


async def test_the_row_holds_what_was_asked_for_in_minor_units(
    site: Site, database: Connection
) -> None:
    called = await site.call(
        *("create", site.name, "--wallets", "all", "--types", "transfer,deposit"),
        *("--currencies", "EUR", "--currencies", "JPY,KWD", "--owners", "ann,bob"),
        *("--per-transaction-max", "EUR=1000.50", "--per-transaction-max", "JPY=7"),
        *("--daily-max", "KWD=1.234", "--json"),
    )

    made = called.json
    assert made.pop("password")
    row = await database.fetchrow("SELECT * FROM clients WHERE name = $1", site.name)
    assert row is not None
    assert (row["reach"], row["disabled_at"]) == ("all", None)
    assert row["allowed_types"] == ["transfer", "deposit"]
    assert row["allowed_currencies"] == ["EUR", "JPY", "KWD"]
    assert row["allowed_owners"] == ["ann", "bob"]
    assert orjson.loads(row["per_transaction_max"]) == {"EUR": 100050, "JPY": 7}
    assert orjson.loads(row["daily_max"]) == {"KWD": 1234}
    assert made["per_transaction_max"] == {"EUR": "1000.50", "JPY": "7"}
    assert (await site.call("list", "--json")).json["items"] == [made]


async def test_a_client_is_own_and_unrestricted_unless_it_is_told_otherwise(site: Site) -> None:
    await site.call("create", site.name)

    [item] = (await site.call("list", "--json")).json["items"]

    assert item["wallets"] == "own"
    assert {item[one] for one in ("types", "currencies", "owners", "daily_max")} == {None}


async def test_a_limit_in_a_registered_asset_has_its_decimals(
    site: Site, database: Connection
) -> None:
    await ackledger(
        *("assets", "add", "POINTS8", "--exponent", "8"),
        directory=site.directory,
        variables=site.variables,
    )

    called = await site.call("create", site.name, "--daily-max", "POINTS8=0.00000001", "--json")

    assert called.json["daily_max"] == {"POINTS8": "0.00000001"}
    stored = await database.fetchval("SELECT daily_max FROM clients WHERE name = $1", site.name)
    assert orjson.loads(stored) == {"POINTS8": 1}
    assert "POINTS8=0.00000001" in (await site.call("list")).out


async def test_a_disabled_client_is_cut_off_and_keeps_its_row(site: Site) -> None:
    password = (await site.call("create", site.name)).out.strip()
    connection = await aio_pika.connect(site.url(password))

    called = await site.call("disable", site.name, "--json")

    assert called.code == 0
    assert called.json["disabled_at"] is not None
    assert connection.transport is not None
    with pytest.raises(aiormq.exceptions.ConnectionClosed, match="deleted"):
        await asyncio.wait_for(connection.transport.connection.closing, 10)
    with pytest.raises(aiormq.exceptions.AMQPConnectionError):
        await aio_pika.connect(site.url(password))
    assert (await site.call("list", "--json")).json["items"] == []
    [kept] = (await site.call("list", "--all", "--json")).json["items"]
    assert kept == called.json
    assert (await site.call("disable", site.name, "--json")).json == called.json


async def test_an_enabled_client_has_a_new_password_and_no_more_rights(site: Site) -> None:
    first = (await site.call("create", site.name)).out.strip()
    await site.call("disable", site.name)

    second = (await site.call("enable", site.name)).out.strip()

    assert second != first
    async with Upstream(site.url(second), user=site.name) as upstream:
        await upstream.publish(b"{}")
    [permissions] = site.management.call("GET", f"/api/users/{site.name}/permissions")
    assert permissions == {
        "user": site.name,
        "vhost": permissions["vhost"],
        **UPSTREAM._asdict(),
    }


async def test_a_user_that_is_there_keeps_its_password_and_is_bounded(site: Site) -> None:
    site.management.put_user(site.name, password="chosen-before")

    refused = await site.call("create", site.name)
    called = await site.call("create", site.name, "--existing-user", "--json")

    assert refused.code == 1
    assert "--existing-user" in refused.err
    assert called.json["password"] is None
    async with Upstream(site.url("chosen-before"), user=site.name) as upstream:
        await upstream.publish(b"{}")


async def test_an_administrator_of_the_broker_becomes_no_client(site: Site) -> None:
    site.management.put_user(site.name, password="x", tags="administrator")

    called = await site.call("create", site.name, "--existing-user")

    assert called.code == 1
    assert (await site.call("list", "--all", "--json")).json["items"] == []


async def test_a_broker_that_does_not_answer_leaves_a_client_that_is_refused(
    site: Site, database: Connection
) -> None:
    """Its row is there before its user, and is enabled after it."""
    away = {"ACKLEDGER_AMQP_MANAGEMENT_URL": "http://a:secret@127.0.0.1:1"}

    called = await ackledger(
        *("clients", "create", site.name),
        directory=site.directory,
        variables={**site.variables, **away},
    )
    await site.call("create", site.name)
    failed = await ackledger(
        *("clients", "disable", site.name),
        directory=site.directory,
        variables={**site.variables, **away},
    )

    assert (called.code, failed.code) == (3, 3)
    assert "secret" not in called.err + failed.err
    disabled_at = await database.fetchval("SELECT disabled_at FROM clients")
    assert disabled_at is not None
    assert (await site.call("disable", site.name)).code == 0
    assert site.management.tags_of(site.name) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["ackledger"],
        ["ackledger-ingress"],
        ["guest"],
        ["user:1"],
        ["two words"],
        ["shop", "--types", "transfer,theft"],
        ["shop", "--currencies", "EUR,XXXX"],
        ["shop", "--daily-max", "EUR"],
        ["shop", "--daily-max", "EUR=1.234"],
        ["shop", "--daily-max", "EUR=-1"],
        ["shop", "--wallets", "some"],
    ],
)
async def test_what_makes_no_sense_is_wrong_use_and_makes_nothing(
    site: Site, database: Connection, arguments: list[str]
) -> None:
    called = await site.call("create", *arguments)

    assert called.code == 2
    assert await database.fetchval("SELECT count(*) FROM clients") == 0


async def test_a_name_is_taken_once_and_unknown_ones_are_refused(site: Site) -> None:
    await site.call("create", site.name)

    again = await site.call("create", site.name, "--existing-user")

    assert (again.code, "clients enable" in again.err) == (1, True)
    assert (await site.call("enable", "nobody")).code == 1
    assert (await site.call("disable", "nobody")).code == 1


async def test_without_the_management_api_the_sentence_names_its_variable(site: Site) -> None:
    variables = {**site.variables, "ACKLEDGER_AMQP_MANAGEMENT_URL": ""}

    called = await ackledger(
        "clients", "create", site.name, directory=site.directory, variables=variables
    )

    assert called.code == 2
    assert "ACKLEDGER_AMQP_MANAGEMENT_URL" in called.err


async def test_the_audit_log_tells_who_made_disabled_and_enabled(site: Site) -> None:
    password = (await site.call("create", site.name, "--daily-max", "EUR=1.00")).out.strip()
    await site.call("disable", site.name)
    await site.call("enable", site.name)

    connection = await connect(site.variables["DATABASE_URL"], name="test")
    rows = await connection.fetch("SELECT * FROM audit_log ORDER BY id")
    await connection.close()
    assert [row["action"] for row in rows] == [
        *("client.created", "client.enabled", "client.disabled", "client.enabled")
    ]
    assert {row["actor"] for row in rows} == {login_actor()}
    assert {row["subject"] for row in rows} == {f"client:{site.name}"}
    detail: dict[str, Any] = orjson.loads(rows[0]["detail"])
    assert detail == {"reach": "own", "daily_max": {"EUR": 100}}
    assert password not in str([dict(row) for row in rows])
