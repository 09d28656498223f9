"""API keys: made, listed and revoked by operators. Only a key's hash is ever stored."""

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from cli.dependencies import Connection
from cli.failures import RefusedError, UsageError
from contracts.people import PERSON_PREFIX
from contracts.representations.transaction import format_moment
from contracts.scopes import KEY_SCOPES, Reach, Scope
from runtime.postgres.queries import load_queries

KEY_PREFIX: Final = "ack_"
KEY_BYTES: Final = 32
"""256 random bits: too many to guess, so a plain hash is enough to store a key by."""
SHOWN_PREFIX: Final = 12
"""Characters of a key by which people tell keys apart: 48 of its 256 bits."""

EXPIRES_IN_MAX: Final = timedelta(days=3660)
"""Ten years: longer means that nobody wants an end."""

_CLIENT: Final = re.compile(r"[\x21-\x7e]{1,255}")
_DURATION: Final = re.compile(r"([0-9]{1,5})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; never the key itself."""

    id: UUID
    client: str
    scopes: tuple[Scope, ...]
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    reach: Reach
    expires_at: datetime | None
    last_used_at: datetime | None
    """To a minute or so."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return {
            "id": str(self.id),
            "client": self.client,
            "scopes": self.scopes,
            "prefix": self.prefix,
            "created_at": format_moment(self.created_at),
            "revoked_at": _moment(self.revoked_at),
            "wallets": self.reach,
            "expires_at": _moment(self.expires_at),
            "last_used_at": _moment(self.last_used_at),
        }


def hash_of(key: str) -> bytes:
    """Return what a key is stored and looked up by."""
    return hashlib.sha256(key.encode()).digest()


def checked_submitter(name: str) -> str:
    """Return the name of a system or a person; raises UsageError for what cannot be one."""
    if not _CLIENT.fullmatch(name):
        raise UsageError("a client's name is 1 to 255 visible ASCII characters")
    return name


def checked_client(name: str) -> str:
    """Return the name of a system; raises UsageError for what cannot be one."""
    checked_submitter(name)
    if name.startswith(PERSON_PREFIX):
        raise UsageError(f"names that begin with '{PERSON_PREFIX}' are people's")
    return name


def duration_of(text: str) -> timedelta:
    """Return what a text such as 90d means (s, m, h, d, w); raises UsageError."""
    match = _DURATION.fullmatch(text)
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not timedelta(0) < duration <= EXPIRES_IN_MAX:
        raise UsageError(
            f"'{text}' is no time such as 12h, 90d or 4w, at most {EXPIRES_IN_MAX.days} days"
        )
    return duration


async def create_api_key(
    connection: Connection,
    *,
    client: str,
    scopes: Collection[Scope],
    actor: str,
    reach: Reach = Reach.OWN,
    expires_in: timedelta | None = None,
) -> tuple[ApiKey, str]:
    """Store a new key and return it with its text, which nobody can read again.

    `client` is the submitter of all that the key submits: 1 to 255 visible ASCII characters. The
    key never expires where `expires_in` is None.
    """
    checked_client(client)
    if not scopes:
        raise UsageError("a key needs at least one scope")
    if not set(scopes) <= set(KEY_SCOPES):
        raise UsageError(f"the scope {Scope.PROFILE} is for people, and no key can have it")
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    row = await connection.fetchrow(
        load_queries("cli")["insert_api_key"],
        client,
        [scope.value for scope in KEY_SCOPES if scope in scopes],
        hash_of(key),
        key[:SHOWN_PREFIX],
        actor,
        reach.value,
        None if expires_in is None else expires_in.total_seconds(),
    )
    assert row is not None, "an INSERT ... RETURNING of one row returns it"  # noqa: S101
    return _api_key(row), key


async def list_api_keys(
    connection: Connection, *, client: str | None, with_revoked: bool
) -> list[ApiKey]:
    """Return the keys, oldest first."""
    rows = await connection.fetch(load_queries("cli")["list_api_keys"], with_revoked, client)
    return [_api_key(row) for row in rows]


async def revoke_api_key(
    connection: Connection, id_or_prefix: str, *, actor: str
) -> tuple[ApiKey, bool]:
    """End a key and return it, and whether it was in force until now.

    Raises RefusedError when the name fits no key, or more than one.
    """
    sql = load_queries("cli")
    found = [_api_key(row) for row in await connection.fetch(sql["find_api_keys"], id_or_prefix)]
    if len(found) != 1:
        raise RefusedError(_not_one(id_or_prefix, found))
    row = await connection.fetchrow(sql["revoke_api_key"], found[0].id, actor)
    if row is not None:
        return _api_key(row), True
    # Ended before us, maybe only just now: read again, so that the time is told.
    again = await connection.fetch(sql["find_api_keys"], str(found[0].id))
    return _api_key(again[0]), False


async def ensure_api_key(
    connection: Connection, *, client: str, known: str | None, actor: str
) -> str:
    """Return a key of the client that may do everything: the known one while it is in force."""
    sql = load_queries("cli")
    if known and await connection.fetchval(
        sql["is_valid_api_key"], hash_of(known), client, [scope.value for scope in KEY_SCOPES]
    ):
        return known
    _, key = await create_api_key(
        connection, client=client, scopes=KEY_SCOPES, actor=actor, reach=Reach.ALL
    )
    return key


def _not_one(id_or_prefix: str, found: Sequence[ApiKey]) -> str:
    if not found:
        return f"no API key has the id or the prefix '{id_or_prefix}'"
    ids = ", ".join(str(key.id) for key in found)
    return f"'{id_or_prefix}' names {len(found)} API keys; use an id: {ids}"


def _api_key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        client=row["client"],
        scopes=tuple(Scope(scope) for scope in row["scopes"]),
        prefix=row["key_prefix"],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        reach=Reach(row["reach"]),
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )


def _moment(moment: datetime | None) -> str | None:
    return format_moment(moment) if moment else None
