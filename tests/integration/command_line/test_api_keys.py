"""`ackledger api-keys`: made once, shown once, revoked for good, and all of it audited."""

import hashlib
import re
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest

from cli.actor import login_actor
from contracts.scopes import KEY_SCOPES
from runtime.postgres.pool import connect
from tests.integration.command_line.calling import Called, ackledger

pytestmark = pytest.mark.long


@pytest.fixture
def variables(database_url: str) -> dict[str, str]:
    """A fresh migrated database."""
    return {"DATABASE_URL": database_url}


async def create(directory: Path, variables: dict[str, str], *arguments: str) -> Called:
    """Create a key for the client `shop`."""
    return await ackledger(
        "api-keys",
        "create",
        "--client",
        "shop",
        *arguments,
        directory=directory,
        variables=variables,
    )


async def test_a_key_stands_alone_on_standard_output(
    directory: Path, variables: dict[str, str]
) -> None:
    called = await create(directory, variables, "--all-scopes")

    assert called.code == 0
    assert re.fullmatch(r"ack_[A-Za-z0-9_-]{43}\n", called.out)
    assert called.out.strip() not in called.err


async def test_only_the_hash_of_a_key_is_stored(directory: Path, variables: dict[str, str]) -> None:
    key = (await create(directory, variables, "--scope", "wallets:read")).out.strip()

    connection = await connect(variables["DATABASE_URL"], name="test")
    [row] = await connection.fetch("SELECT * FROM api_keys")
    await connection.close()
    assert row["key_hash"] == hashlib.sha256(key.encode()).digest()
    assert row["key_prefix"] == key[:12]
    assert row["scopes"] == ["wallets:read"]
    assert key not in str(dict(row))


async def test_the_list_shows_keys_in_force_and_with_all_the_revoked(
    directory: Path, variables: dict[str, str]
) -> None:
    first = (await create(directory, variables, "--all-scopes", "--json")).json
    second = (await create(directory, variables, "--scope", "operations", "--json")).json
    await ackledger("api-keys", "revoke", first["prefix"], directory=directory, variables=variables)

    listed = await ackledger("api-keys", "list", "--json", directory=directory, variables=variables)
    everything = await ackledger(
        "api-keys", "list", "--all", "--json", directory=directory, variables=variables
    )

    second.pop("key")
    assert listed.json["items"] == [second]
    assert [one["id"] for one in everything.json["items"]] == [first["id"], second["id"]]
    assert everything.json["items"][0]["scopes"] == [scope.value for scope in KEY_SCOPES]
    assert everything.json["items"][0]["revoked_at"] is not None


@pytest.mark.parametrize("named_by", ["id", "prefix"])
async def test_a_key_is_revoked_once_however_often_it_is_asked(
    directory: Path, variables: dict[str, str], named_by: str
) -> None:
    made = (await create(directory, variables, "--all-scopes", "--json")).json

    async def revoke() -> Called:
        return await ackledger(
            "api-keys", "revoke", made[named_by], "--json", directory=directory, variables=variables
        )

    first, second = await revoke(), await revoke()

    assert (first.code, second.code) == (0, 0)
    assert (first.json["was_in_force"], second.json["was_in_force"]) == (True, False)
    assert first.json["revoked_at"] == second.json["revoked_at"]


async def test_the_audit_log_tells_who_made_and_who_revoked(
    directory: Path, variables: dict[str, str]
) -> None:
    made = (await create(directory, variables, "--scope", "wallets:read", "--json")).json
    for _ in range(2):
        await ackledger("api-keys", "revoke", made["id"], directory=directory, variables=variables)

    connection = await connect(variables["DATABASE_URL"], name="test")
    rows = await connection.fetch("SELECT * FROM audit_log ORDER BY id")
    await connection.close()
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        (login_actor(), "api_key.created", f"api_key:{made['id']}"),
        (login_actor(), "api_key.revoked", f"api_key:{made['id']}"),
    ]
    assert orjson.loads(rows[0]["detail"]) == {
        "client": "shop",
        "scopes": ["wallets:read"],
        "prefix": made["prefix"],
        "reach": "own",
        "expires_at": None,
    }
    assert made["key"] not in str([dict(row) for row in rows])


async def test_an_unknown_key_cannot_be_revoked(directory: Path, variables: dict[str, str]) -> None:
    called = await ackledger(
        "api-keys", "revoke", "ack_nobody00", directory=directory, variables=variables
    )

    assert called.code == 1
    assert "'ack_nobody00'" in called.err


@pytest.mark.parametrize(
    "client", ["", "two words", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 256]
)
async def test_a_client_name_is_visible_ascii(
    directory: Path, variables: dict[str, str], client: str
) -> None:
    called = await ackledger(
        "api-keys",
        "create",
        "--client",
        client,
        "--all-scopes",
        directory=directory,
        variables=variables,
    )

    assert called.code == 2
    assert "visible ASCII" in called.err


@pytest.mark.parametrize("rights", [(), ("--all-scopes", "--scope", "operations")], ids=str)
async def test_rights_are_named_one_way(
    directory: Path, variables: dict[str, str], rights: tuple[str, ...]
) -> None:
    called = await create(directory, variables, *rights)

    assert called.code == 2
    assert "--all-scopes" in called.err


@pytest.mark.parametrize(
    ("arguments", "wallets"),
    [((), "own"), (("--wallets", "own"), "own"), (("--wallets", "all"), "all")],
)
async def test_a_key_reaches_its_client_s_wallets_unless_it_is_given_all(
    directory: Path, variables: dict[str, str], arguments: tuple[str, ...], wallets: str
) -> None:
    made = (await create(directory, variables, "--all-scopes", "--json", *arguments)).json
    table = await ackledger("api-keys", "list", directory=directory, variables=variables)

    assert (made["wallets"], made["expires_at"], made["last_used_at"]) == (wallets, None, None)
    assert table.out.splitlines()[1].split()[3] == wallets


async def test_a_key_may_expire(directory: Path, variables: dict[str, str]) -> None:
    made = (
        await create(directory, variables, "--all-scopes", "--expires-in", "90d", "--json")
    ).json
    created, expires = (datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at"))

    assert timedelta(days=89) < expires - created < timedelta(days=91)


@pytest.mark.parametrize("text", ["90", "0d", "-1d", "1y", "d", "99999d", "1.5h", "999999999w"])
async def test_what_is_no_time_is_refused(
    directory: Path, variables: dict[str, str], text: str
) -> None:
    called = await create(directory, variables, "--all-scopes", f"--expires-in={text}")

    assert called.code == 2
    assert "is no time such as" in called.err


async def test_no_key_has_the_scope_of_people_or_a_person_s_name(
    directory: Path, variables: dict[str, str]
) -> None:
    scope = await create(directory, variables, "--scope", "profile")
    name = await ackledger(
        "api-keys",
        "create",
        "--client",
        "user:1",
        "--all-scopes",
        directory=directory,
        variables=variables,
    )

    assert (scope.code, name.code) == (2, 2)
    assert "for people" in scope.err
    assert "people's" in name.err
