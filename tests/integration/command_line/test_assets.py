"""`ackledger assets`: registered once, never changed, and audited."""

import asyncio
from pathlib import Path
from uuid import uuid4

import asyncpg
import orjson
import pytest

from cli.actor import login_actor
from cli.assets import add_asset
from cli.failures import RefusedError
from runtime.postgres.assets import ASSETS_MAX
from runtime.postgres.pool import connect
from tests.conftest import Connection
from tests.integration.command_line.calling import Called, ackledger

pytestmark = pytest.mark.long


@pytest.fixture
def variables(database_url: str) -> dict[str, str]:
    """A fresh migrated database."""
    return {"DATABASE_URL": database_url}


async def add(
    directory: Path, variables: dict[str, str], code: str, exponent: int, *more: str
) -> Called:
    """Register an asset."""
    return await ackledger(
        *("assets", "add", code, "--exponent", str(exponent), *more),
        directory=directory,
        variables=variables,
    )


async def test_an_asset_is_registered_once_however_often_it_is_added(
    directory: Path, variables: dict[str, str]
) -> None:
    first = await add(directory, variables, "POINTS8", 8, "--json")
    again = await add(directory, variables, "POINTS8", 8, "--json")
    said = await add(directory, variables, "POINTS8", 8)
    listed = await ackledger("assets", "list", "--json", directory=directory, variables=variables)
    table = await ackledger("assets", "list", directory=directory, variables=variables)

    assert (first.code, again.code, said.code) == (0, 0, 0)
    assert first.json.pop("is_new")
    assert first.json | {"is_new": False} == again.json
    assert "POINTS8 with 8 decimals: already registered" in said.out
    assert listed.json == {"items": [{k: v for k, v in first.json.items() if k != "is_new"}]}
    assert (first.json["registered_by"], first.json["exponent"]) == (login_actor(), 8)
    assert "POINTS8" in table.out


async def test_another_exponent_is_refused(directory: Path, variables: dict[str, str]) -> None:
    await add(directory, variables, "POINTS8", 8)
    called = await add(directory, variables, "POINTS8", 2)

    assert called.code == 1
    assert "'POINTS8' is registered with exponent 8; an asset never changes" in called.err


@pytest.mark.parametrize("code", ["USD", "BGN", "XAU", "DDM"])
async def test_no_code_of_iso_4217_can_be_registered(
    directory: Path, variables: dict[str, str], code: str
) -> None:
    called = await add(directory, variables, code, 2)

    assert called.code == 1
    assert f"'{code}' is or was a code of ISO 4217" in called.err


@pytest.mark.parametrize(
    ("code", "exponent"),
    [("points", 2), ("AB", 2), ("A" * 13, 2), ("PO-NTS", 2), ("POINTS", 13), ("POINTS", -1)],
)
async def test_another_form_is_wrong_usage(
    directory: Path, variables: dict[str, str], code: str, exponent: int
) -> None:
    called = await add(directory, variables, code, exponent)

    assert called.code == 2
    assert "--exponent" in called.err or "3 to 12 of A-Z and 0-9" in called.err


async def test_the_audit_log_tells_who_registered_it(
    directory: Path, variables: dict[str, str]
) -> None:
    for _ in range(2):
        await add(directory, variables, "POINTS8", 8)

    connection = await connect(variables["DATABASE_URL"], name="test")
    [row] = await connection.fetch("SELECT * FROM audit_log")
    await connection.close()
    assert (row["actor"], row["action"], row["subject"]) == (
        login_actor(),
        "asset.registered",
        "asset:POINTS8",
    )
    assert orjson.loads(row["detail"])["exponent"] == 8


async def test_of_two_who_register_a_code_at_once_one_does(database_url: str) -> None:
    connections = [await connect(database_url, name="test") for _ in range(4)]
    made = await asyncio.gather(*(add_asset(one, "POINTS", 2, actor="test") for one in connections))

    assert sorted(is_new for _, is_new in made) == [False, False, False, True]
    assert len({asset for asset, _ in made}) == 1
    for one in connections:
        await one.close()


async def test_the_number_of_assets_has_a_bound(
    database: Connection,
) -> None:
    await database.execute(
        "INSERT INTO assets (code, exponent, registered_by, registered_at, usable_from) "
        "SELECT 'A' || n, 2, 'test', now(), now() FROM generate_series(10, $1::integer + 9) AS n",
        ASSETS_MAX,
    )

    with pytest.raises(RefusedError, match="more than 1000 cannot"):
        await add_asset(database, "POINTS", 2, actor="test")
    assert not (await add_asset(database, "A10", 2, actor="test"))[1]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE assets SET exponent = 3", "DELETE FROM assets", "TRUNCATE assets"],
)
async def test_the_table_is_append_only(database: Connection, statement: str) -> None:
    await add_asset(database, f"X{uuid4().hex[:8].upper()}", 2, actor="test")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute(statement)
    await database.execute("GRANT UPDATE, DELETE, TRUNCATE ON assets TO CURRENT_USER")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await database.execute(statement)


async def test_a_database_before_its_migration_is_named(
    directory: Path, empty_database_url: str
) -> None:
    called = await add(directory, {"DATABASE_URL": empty_database_url}, "POINTS8", 8)

    assert called.code == 2
    assert "ackledger migrate" in called.err
