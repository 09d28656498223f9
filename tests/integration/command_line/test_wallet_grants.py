"""`ackledger wallets`: wallets granted to clients, taken back, listed, and all of it audited."""

from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from cli.actor import login_actor
from contracts.identifiers import external_wallet_id
from runtime.postgres.pool import connect
from tests.integration.command_line.calling import Called, ackledger

pytestmark = pytest.mark.long


@pytest.fixture
def variables(database_url: str) -> dict[str, str]:
    """A fresh migrated database."""
    return {"DATABASE_URL": database_url}


@pytest.fixture
async def wallet(database_url: str) -> str:
    """A wallet, beside the external one of its currency."""
    wallet_id = uuid4()
    connection = await connect(database_url, name="test")
    for one, kind in ((wallet_id, "customer"), (external_wallet_id("USD"), "external")):
        await connection.execute(
            "INSERT INTO wallets (id, currency, kind) VALUES ($1, 'USD', $2::text::wallet_kind)",
            one,
            kind,
        )
    await connection.close()
    return str(wallet_id)


async def test_a_grant_is_made_once_listed_and_ended(
    directory: Path, variables: dict[str, str], wallet: str
) -> None:
    async def call(*arguments: str) -> Called:
        return await ackledger("wallets", *arguments, directory=directory, variables=variables)

    first = await call("grant", wallet, "--to", "shop", "--json")
    again = await call("grant", wallet, "--to", "shop", "--json")
    person = await call("grant", wallet, "--to", f"user:{uuid4()}")
    listed = await call("grants", "--wallet", wallet, "--to", "shop", "--json")
    table = await call("grants")
    ended = await call("revoke-grant", wallet, "--to", "shop")
    ended_again = await call("revoke-grant", wallet, "--to", "shop")
    left = await call("grants", "--to", "shop", "--json")

    assert (first.json["is_new"], again.json["is_new"]) == (True, False)
    assert (person.code, ended.code, ended_again.code) == (0, 0, 1)
    assert [(one["wallet_id"], one["client"]) for one in listed.json["items"]] == [(wallet, "shop")]
    assert len(table.out.splitlines()) == 3
    assert "not granted" in ended_again.err
    assert left.json["items"] == []


async def test_the_audit_log_tells_who_granted_and_who_took_back(
    directory: Path, variables: dict[str, str], wallet: str
) -> None:
    for verb in ("grant", "grant", "revoke-grant"):
        await ackledger(
            "wallets", verb, wallet, "--to", "shop", directory=directory, variables=variables
        )

    connection = await connect(variables["DATABASE_URL"], name="test")
    rows = await connection.fetch("SELECT * FROM audit_log ORDER BY id")
    await connection.close()
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        (login_actor(), "wallet.granted", f"wallet:{wallet}"),
        (login_actor(), "wallet.grant_revoked", f"wallet:{wallet}"),
    ]
    assert {orjson.loads(row["detail"])["client"] for row in rows} == {"shop"}


@pytest.mark.parametrize("to", ["", "ä", "x" * 256])
async def test_a_name_that_no_submitter_has_is_refused(
    directory: Path, variables: dict[str, str], wallet: str, to: str
) -> None:
    called = await ackledger(
        "wallets", "grant", wallet, "--to", to, directory=directory, variables=variables
    )

    assert called.code == 2


@pytest.mark.usefixtures("wallet")
async def test_neither_an_unknown_nor_an_external_wallet_can_be_granted(
    directory: Path, variables: dict[str, str]
) -> None:
    for one, reason in (
        (uuid4(), "there is no wallet"),
        (external_wallet_id("USD"), "external wallet"),
    ):
        called = await ackledger(
            "wallets", "grant", str(one), "--to", "shop", directory=directory, variables=variables
        )

        assert called.code == 1
        assert reason in called.err
