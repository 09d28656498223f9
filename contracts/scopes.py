"""Access: what a caller may do, by scope; what people may do, by role; whose things, by reach.

Pure: who somebody is, and what belongs to whom, is found out elsewhere.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Scope(StrEnum):
    """One right of a caller; a call names the one that it needs."""

    WALLETS_READ = "wallets:read"
    WALLETS_WRITE = "wallets:write"
    TRANSACTIONS_READ = "transactions:read"
    TRANSACTIONS_WRITE = "transactions:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    OPERATIONS_READ = "operations:read"
    OPERATIONS = "operations"
    PROFILE = "profile"
    """A person's own account: who they are, their sessions and notifications. No key has it."""
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    AUDIT_READ = "audit:read"


IMPLIED_SCOPES: Final[Mapping[Scope, frozenset[Scope]]] = {
    Scope.OPERATIONS: frozenset({Scope.OPERATIONS_READ}),
    Scope.USERS_WRITE: frozenset({Scope.USERS_READ}),
    Scope.WEBHOOKS_WRITE: frozenset({Scope.WEBHOOKS_READ}),
}
"""Whoever may change something may look at it."""

KEY_SCOPES: Final = tuple(scope for scope in Scope if scope is not Scope.PROFILE)
"""Those that an API key may have: it is no person."""


class Role(StrEnum):
    """What a person is to the service."""

    CUSTOMER = "customer"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Reach(StrEnum):
    """Whose wallets and transactions a caller sees and moves."""

    OWN = "own"
    """Wallets that it made or was granted, and what it submitted."""
    ALL = "all"


_MONEY: Final = frozenset(
    {
        Scope.WALLETS_READ,
        Scope.WALLETS_WRITE,
        Scope.TRANSACTIONS_READ,
        Scope.TRANSACTIONS_WRITE,
        Scope.WEBHOOKS_READ,
        Scope.WEBHOOKS_WRITE,
    }
)

ROLE_SCOPES: Final[Mapping[Role, frozenset[Scope]]] = {
    Role.CUSTOMER: _MONEY | {Scope.PROFILE},
    Role.OPERATOR: _MONEY | {Scope.OPERATIONS_READ, Scope.OPERATIONS, Scope.PROFILE},
    Role.AUDITOR: frozenset(
        {
            Scope.WALLETS_READ,
            Scope.TRANSACTIONS_READ,
            Scope.WEBHOOKS_READ,
            Scope.OPERATIONS_READ,
            Scope.USERS_READ,
            Scope.AUDIT_READ,
            Scope.PROFILE,
        }
    ),
    Role.ADMIN: frozenset(Scope),
}
"""What people may do: the only place that says so."""

ROLE_REACH: Final[Mapping[Role, Reach]] = {
    Role.CUSTOMER: Reach.OWN,
    Role.OPERATOR: Reach.ALL,
    Role.AUDITOR: Reach.ALL,
    Role.ADMIN: Reach.ALL,
}


def with_implied(scopes: Iterable[str]) -> frozenset[str]:
    """Return scopes with those that they imply; words that are no scope (any more) stay."""
    given = frozenset(scopes)
    return given.union(*(IMPLIED_SCOPES.get(Scope(one), ()) for one in given if one in _WORDS))


_WORDS: Final = frozenset(Scope)

EVENTS_SCOPE: Final = Scope.TRANSACTIONS_READ
"""What whoever is told of events needs, by `GET /v1/events` as by a webhook."""


class Rights(NamedTuple):
    """What one key or one account may do, and with whose."""

    scopes: frozenset[str]
    reach: Reach


def rights_of_key(scopes: Iterable[str], reach: str) -> Rights:
    """Return what a key with these scopes may do."""
    return Rights(with_implied(scopes), Reach(reach))


def rights_of_role(role: str) -> Rights:
    """Return what a person with this role may do."""
    return Rights(with_implied(ROLE_SCOPES[Role(role)]), ROLE_REACH[Role(role)])


def widest_reach(rights: Iterable[Rights], scope: Scope) -> Reach | None:
    """Return how far whoever has all of these rights may use a scope; None: not at all."""
    found = {one.reach for one in rights if scope in one.scopes}
    return Reach.ALL if Reach.ALL in found else Reach.OWN if found else None
