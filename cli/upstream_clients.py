"""Upstream clients: a broker user that may publish transactions, and the row that bounds it.

Whoever has no row may move any wallet, as before there were rows. So the row is committed first,
and disabled; then the user is made; then the row is enabled. Whatever dies in between leaves a
client that is refused, and `enable` completes it.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import asyncpg
import orjson

from cli.clients.management import UNREACHABLE, Management
from cli.dependencies import Connection, unreachable
from cli.failures import RefusedError, UsageError
from contracts.broker_permissions import OWN_USERS, UPSTREAM
from contracts.money import (
    AmountError,
    amount_minor,
    decimal_of,
    exponent_of,
    format_minor,
)
from contracts.representations.transaction import format_moment
from contracts.scopes import Reach
from ledger.words import TransactionType
from runtime.postgres.queries import load_queries

PASSWORD_BYTES: Final = 32
LIST_MAX: Final = 1_000
"""Words of one restriction: the processor keeps them for each client."""
_NAME: Final = re.compile(r"[\x21-\x7e]{1,255}")
_RESERVED: Final = re.compile(rf"({OWN_USERS}|user:|guest$)")

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """What a client may ask for; None means anything. Sums are minor units by currency."""

    reach: Reach = Reach.OWN
    types: tuple[str, ...] | None = None
    currencies: tuple[str, ...] | None = None
    owners: tuple[str, ...] | None = None
    per_transaction_max: Mapping[str, int] | None = None
    daily_max: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class UpstreamClient:
    """What is known of a client; never its password, which only the broker can check."""

    name: str
    restrictions: Restrictions
    created_at: datetime
    disabled_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it; amounts as decimal strings."""
        asked = self.restrictions
        return {
            "name": self.name,
            "wallets": asked.reach,
            "types": asked.types,
            "currencies": asked.currencies,
            "owners": asked.owners,
            "per_transaction_max": _written(asked.per_transaction_max),
            "daily_max": _written(asked.daily_max),
            "created_at": format_moment(self.created_at),
            "disabled_at": format_moment(self.disabled_at) if self.disabled_at else None,
        }


class BrokerUsers:
    """The users of upstream clients in one virtual host. Its calls block for seconds at most."""

    def __init__(self, management_url: str, *, vhost: str) -> None:
        """`management_url` holds the user and the password of one that may make users."""
        self._url = management_url
        self._management = Management(management_url)
        self._vhost = vhost

    def check(self, name: str, *, is_there: bool) -> None:
        """Raise RefusedError unless there is such a user, or none, as it should be."""
        tags = self._asked(lambda: self._management.tags_of(name))
        if tags:
            raise RefusedError(f"the broker's user '{name}' has rights of an administration")
        if is_there and tags is None:
            raise RefusedError(f"the broker has no user '{name}'")
        if not is_there and tags is not None:
            raise RefusedError(
                f"the broker has a user '{name}' already; with --existing-user it stays as it is, "
                "bounded to what upstream clients may do"
            )

    def bound(self, name: str, *, password: str | None) -> None:
        """Give the user what upstream clients may do, and no more; make it if it has a password."""
        if password is not None:
            self._asked(lambda: self._management.put_user(name, password=password))
        self._asked(
            lambda: self._management.put_permissions(name, vhost=self._vhost, permissions=UPSTREAM)
        )

    def remove(self, name: str) -> None:
        """Remove the user; its connections end."""
        self._asked(lambda: self._management.delete_user(name))

    def _asked(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except UNREACHABLE as error:
            raise unreachable("RabbitMQ's management API", self._url, error) from error


async def create_client(
    connection: Connection,
    users: BrokerUsers,
    name: str,
    restrictions: Restrictions,
    *,
    is_there: bool,
    actor: str,
) -> tuple[UpstreamClient, str | None]:
    """Make a client and return it with its password, which nobody can read again.

    `is_there`: the broker has the user already; its password stays, and None is returned.
    Raises UsageError for a name that no client may have, RefusedError where it is taken.
    """
    _check_name(name)
    await asyncio.to_thread(users.check, name, is_there=is_there)
    row = await connection.fetchrow(
        load_queries("cli")["insert_client"],
        name,
        restrictions.reach.value,
        restrictions.types,
        restrictions.currencies,
        restrictions.owners,
        _document(restrictions.per_transaction_max),
        _document(restrictions.daily_max),
        actor,
    )
    if row is None:
        raise RefusedError(
            f"there is a client '{name}' already; "
            f"a disabled one comes back with: ackledger clients enable {name}"
        )
    return await _enabled(
        connection, users, name, password=None if is_there else _password(), actor=actor
    )


async def enable_client(
    connection: Connection, users: BrokerUsers, name: str, *, actor: str
) -> tuple[UpstreamClient, str]:
    """Let a client in, again or anew, under a new password, and return both.

    Raises RefusedError when there is none of that name.
    """
    if await connection.fetchrow(load_queries("cli")["read_client"], name) is None:
        raise RefusedError(f"there is no client '{name}'")
    password = _password()
    client, _ = await _enabled(connection, users, name, password=password, actor=actor)
    return client, password


async def disable_client(
    connection: Connection, users: BrokerUsers, name: str, *, actor: str
) -> UpstreamClient:
    """Shut a client out: the broker's user is removed, and its connections end. The row stays.

    Raises RefusedError when there is none of that name. Safe to repeat.
    """
    client = await _switched(connection, name, is_enabled=False, actor=actor)
    await asyncio.to_thread(users.remove, name)
    return client


async def list_clients(connection: Connection, *, with_disabled: bool) -> list[UpstreamClient]:
    """Return the clients by their names."""
    rows = await connection.fetch(load_queries("cli")["list_clients"], with_disabled)
    return [_client(row) for row in rows]


def restrictions_of(
    reach: Reach,
    *,
    types: Sequence[str] | None,
    currencies: Sequence[str] | None,
    owners: Sequence[str] | None,
    per_transaction_max: Sequence[str] | None,
    daily_max: Sequence[str] | None,
) -> Restrictions:
    """Return what was written on a command line: words with commas, sums such as `EUR=1000.00`.

    Raises UsageError for a word that nobody knows, and for an amount that is none.
    """
    return Restrictions(
        reach=reach,
        types=_types(types),
        currencies=_currencies(currencies),
        owners=_split(owners),
        per_transaction_max=_sums(per_transaction_max),
        daily_max=_sums(daily_max),
    )


def _split(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return each word once; None where there are none."""
    each = (one.strip() for text in texts or () for one in text.split(","))
    words = dict.fromkeys(filter(None, each))
    if len(words) > LIST_MAX:
        raise UsageError(f"at most {LIST_MAX} words can be given, not {len(words)}")
    return tuple(words) or None


def _types(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    words = _split(texts)
    known = [one.value for one in TransactionType]
    for word in words or ():
        if word not in known:
            raise UsageError(f"'{word}' is no type of transaction; there are: {', '.join(known)}")
    return words


def _currencies(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    words = _split(texts)
    for word in words or ():
        try:
            exponent_of(word)
        except AmountError as error:
            raise UsageError(str(error)) from error
    return words


def _sums(texts: Sequence[str] | None) -> dict[str, int] | None:
    """Return minor units by currency; None where there are none."""
    found: dict[str, int] = {}
    for text in texts or ():
        currency, _, amount = text.partition("=")
        try:
            found[currency] = amount_minor(decimal_of(amount), currency)
        except AmountError as error:
            raise UsageError(f"'{text}': {error}; write it as EUR=1000.00") from error
    return found or None


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError("a client's name is 1 to 255 visible ASCII characters")
    if _RESERVED.match(name):
        raise UsageError(
            f"'{name}': names that begin with '{OWN_USERS}' or 'user:', and 'guest', are not "
            "those of upstream clients"
        )


async def _enabled(
    connection: Connection, users: BrokerUsers, name: str, *, password: str | None, actor: str
) -> tuple[UpstreamClient, str | None]:
    await asyncio.to_thread(users.bound, name, password=password)
    return await _switched(connection, name, is_enabled=True, actor=actor), password


async def _switched(
    connection: Connection, name: str, *, is_enabled: bool, actor: str
) -> UpstreamClient:
    action = "client.enabled" if is_enabled else "client.disabled"
    row = await connection.fetchrow(
        load_queries("cli")["switch_client"], name, is_enabled, actor, action
    )
    if row is None:
        raise RefusedError(f"there is no client '{name}'")
    return _client(row)


def _password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _document(sums: Mapping[str, int] | None) -> str | None:
    return None if sums is None else orjson.dumps(dict(sums)).decode()


def _written(sums: Mapping[str, int] | None) -> dict[str, str] | None:
    if sums is None:
        return None
    return {currency: format_minor(minor, currency) for currency, minor in sums.items()}


def _words(words: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words)


def _client(row: asyncpg.Record) -> UpstreamClient:
    sums = [row["per_transaction_max"], row["daily_max"]]
    per_transaction_max, daily_max = (None if one is None else orjson.loads(one) for one in sums)
    return UpstreamClient(
        name=row["name"],
        restrictions=Restrictions(
            reach=Reach(row["reach"]),
            types=_words(row["allowed_types"]),
            currencies=_words(row["allowed_currencies"]),
            owners=_words(row["allowed_owners"]),
            per_transaction_max=per_transaction_max,
            daily_max=daily_max,
        ),
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
    )
