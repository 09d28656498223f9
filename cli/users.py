"""People's accounts: made, listed and changed by operators. Only a password's hash is stored."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from cli.dependencies import Connection
from cli.failures import RefusedError, UsageError
from contracts.people import NAME_MAX, UserStatus, normalized_email, password_weakness
from contracts.representations.people import render_user
from contracts.scopes import Role
from ingress.people.passwords import Passwords
from runtime.postgres.queries import load_queries

GENERATED_BYTES: Final = 18
"""Of a password that is generated: 24 characters."""

User = Mapping[str, Any]
"""An account as `contracts.representations.people.User` has it."""


def new_password() -> str:
    """Return a password that nobody can guess."""
    return secrets.token_urlsafe(GENERATED_BYTES)


async def create_user(
    connection: Connection, *, email: str, name: str | None, role: Role, password: str, actor: str
) -> User:
    """Make an ACTIVE account. Raises UsageError for a wrong address, RefusedError for a known one.

    The address counts as confirmed: whoever runs the command vouches for it.
    """
    address = _address(email)
    _check_name(name)
    row = await connection.fetchrow(
        load_queries("cli")["insert_user"],
        address,
        name,
        role,
        await _hashed(password, address),
        actor,
    )
    if row is None:
        raise RefusedError(f"{address} has an account already")
    return render_user(row)


async def list_users(
    connection: Connection, *, role: Role | None, status: UserStatus | None, limit: int
) -> list[User]:
    """Return accounts, the newest first; deleted ones only where `status` asks for them."""
    rows = await connection.fetch(load_queries("cli")["list_users"], role, status, limit)
    return [render_user(row) for row in rows]


async def change_user(
    connection: Connection,
    id_or_email: str,
    *,
    role: Role | None = None,
    status: UserStatus | None = None,
    actor: str,
) -> User:
    """Return an account whose role or status was changed; felt within a second.

    Raises RefusedError for one that there is not, or that cannot be changed so.
    """
    sql = load_queries("cli")
    async with connection.transaction():
        user = await connection.fetchrow(sql["lock_user"], id_or_email.lower())
        if user is None:
            raise RefusedError(f"no account has the id or the address '{id_or_email}'")
        if status is UserStatus.ACTIVE and user["confirmed_at"] is None:
            raise RefusedError(f"{user['email']} is not confirmed")
        row = await connection.fetchrow(sql["change_user"], user["id"], role, status, actor)
        return render_user(_existing(row))


async def ensure_user(
    connection: Connection, *, email: str, role: Role, known: str | None, actor: str
) -> str:
    """Return a password of an ACTIVE account of this role: the known one while it is right.

    For private systems on one machine, whose users get a new one by a restart.
    """
    sql = load_queries("cli")
    user = await connection.fetchrow(sql["lock_user"], email)
    if user is None:
        password = new_password()
        await create_user(
            connection, email=email, name=None, role=role, password=password, actor=actor
        )
        return password
    is_as_wanted = (user["role"], user["status"]) == (role, UserStatus.ACTIVE)
    if known and is_as_wanted and await _is_right(user, known):
        return known
    password = new_password()
    await connection.execute(
        sql["renew_user"], user["id"], role, await _hashed(password, email), actor
    )
    return password


def _address(email: str) -> str:
    try:
        return normalized_email(email)
    except ValueError as error:
        raise UsageError(f"'{email}': {error}") from None


def _check_name(name: str | None) -> None:
    if name is not None and not (0 < len(name) <= NAME_MAX and name.isprintable()):
        raise UsageError(f"a name is 1 to {NAME_MAX} printable characters")


async def _hashed(password: str, address: str) -> str:
    weakness = password_weakness(password, email=address)
    if weakness is not None:
        raise RefusedError(f"the password {weakness}")
    passwords = Passwords(at_once=1, waiting_max=0)
    try:
        return await passwords.hash(password)
    finally:
        await passwords.close()


async def _is_right(user: asyncpg.Record, password: str) -> bool:
    passwords = Passwords(at_once=1, waiting_max=0)
    try:
        return await passwords.verify(user["password_hash"], password)
    finally:
        await passwords.close()


def _existing(row: asyncpg.Record | None) -> asyncpg.Record:
    assert row is not None, "a locked row stays"  # noqa: S101
    return row
