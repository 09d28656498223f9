"""`ackledger users`: accounts made, listed and changed, and all of it audited."""

import asyncio
import sys
from pathlib import Path

import argon2
import orjson
import pytest

from cli.actor import login_actor
from cli.users import ensure_user
from contracts.scopes import Role
from runtime.postgres.pool import connect
from tests.integration.command_line.calling import Called, ackledger, environment_of

pytestmark = pytest.mark.long

PASSWORD = "correct horse battery staple"
EMAIL = "ada@example.com"


@pytest.fixture
def variables(database_url: str) -> dict[str, str]:
    """A fresh migrated database."""
    return {"DATABASE_URL": database_url}


async def create(directory: Path, variables: dict[str, str], *arguments: str) -> Called:
    """Create a customer with a password that is generated."""
    return await ackledger(
        *("users", "create", EMAIL, "--role", "customer", "--generate", *arguments),
        directory=directory,
        variables=variables,
    )


async def create_with(
    directory: Path, variables: dict[str, str], password: str
) -> tuple[int | None, str]:
    """Create an admin with a password from a pipe; return the exit code and all that was said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "users", "create", EMAIL),
        *("--role", "admin", "--name", "Ada", "--password-stdin"),
        cwd=directory.parent,
        env=environment_of(directory, variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate(password.encode() + b"\n")
    return process.returncode, said.decode()


async def test_a_generated_password_stands_alone_on_standard_output(
    directory: Path, variables: dict[str, str]
) -> None:
    called = await create(directory, variables)
    password = called.out.strip()

    connection = await connect(variables["DATABASE_URL"], name="test")
    [row] = await connection.fetch("SELECT * FROM users")
    await connection.close()
    assert called.code == 0
    assert password not in called.err
    assert argon2.PasswordHasher().verify(row["password_hash"], password)
    assert (row["email"], row["role"], row["status"]) == (EMAIL, "customer", "ACTIVE")


async def test_a_password_comes_from_a_pipe(directory: Path, variables: dict[str, str]) -> None:
    code, said = await create_with(directory, variables, PASSWORD)
    listed = await ackledger("users", "list", "--json", directory=directory, variables=variables)

    [user] = listed.json["items"]
    assert code == 0
    assert PASSWORD not in said
    assert (user["name"], user["role"]) == ("Ada", "admin")


@pytest.mark.parametrize(
    ("password", "reason"),
    [("short", "at least 8 characters"), ("ada@example.com", "must not contain")],
)
async def test_a_weak_password_is_refused(
    directory: Path, variables: dict[str, str], password: str, reason: str
) -> None:
    code, said = await create_with(directory, variables, password)

    assert code == 1
    assert reason in said


async def test_an_address_has_one_account(directory: Path, variables: dict[str, str]) -> None:
    await create(directory, variables)
    again = await create(directory, variables)

    assert again.code == 1
    assert f"{EMAIL} has an account already" in again.err


async def test_without_a_terminal_the_way_to_a_password_is_named(
    directory: Path, variables: dict[str, str]
) -> None:
    called = await ackledger(
        "users", "create", EMAIL, "--role", "customer", directory=directory, variables=variables
    )

    assert called.code == 2
    assert "--password-stdin" in called.err


async def test_roles_and_states_are_changed_and_audited(
    directory: Path, variables: dict[str, str]
) -> None:
    made = (await create(directory, variables, "--json")).json
    steps = [
        await ackledger("users", *step, "--json", directory=directory, variables=variables)
        for step in (
            ("set-role", EMAIL.upper(), "operator"),
            ("disable", made["id"]),
            ("enable", EMAIL),
        )
    ]

    connection = await connect(variables["DATABASE_URL"], name="test")
    rows = await connection.fetch("SELECT * FROM audit_log ORDER BY id")
    await connection.close()
    assert [(one.json["role"], one.json["status"]) for one in steps] == [
        ("operator", "ACTIVE"),
        ("operator", "DISABLED"),
        ("operator", "ACTIVE"),
    ]
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        (login_actor(), action, f"user:{made['id']}")
        for action in ("user.created", *["user.changed"] * 3)
    ]
    assert orjson.loads(rows[1]["detail"]) == {"role": "operator", "status": "ACTIVE"}
    assert made["password"] not in str([dict(row) for row in rows])


async def test_an_account_that_there_is_not_is_not_changed(
    directory: Path, variables: dict[str, str]
) -> None:
    called = await ackledger(
        "users", "disable", "nobody@example.com", directory=directory, variables=variables
    )

    assert called.code == 1
    assert "'nobody@example.com'" in called.err


async def test_a_private_system_s_user_keeps_the_password_while_it_is_right(
    database_url: str,
) -> None:
    connection = await connect(database_url, name="test")

    async def ensured(known: str | None) -> str:
        return await ensure_user(
            connection, email=EMAIL, role=Role.ADMIN, known=known, actor="test"
        )

    first = await ensured(None)
    kept = await ensured(first)
    renewed = await ensured("another one")
    [row] = await connection.fetch("SELECT password_hash, role FROM users")
    await connection.close()

    assert first == kept != renewed
    assert argon2.PasswordHasher().verify(row["password_hash"], renewed)
    assert row["role"] == "admin"
