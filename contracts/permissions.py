"""The permission table: which call asks for which scopes, and which roles have them; pure.

Made of OPERATIONS and ROLE_SCOPES, which the ingress enforces: there is no second list.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from contracts.operations import OPERATIONS, Operation
from contracts.scopes import ROLE_SCOPES, Role, Scope, with_implied

PUBLIC_PATHS: Final = frozenset(
    {
        "/healthz",
        "/readyz",
        "/docs",
        "/docs/events",
        "/docs/collection.json",
        "/openapi.json",
        "/asyncapi.json",
        "/.well-known/jwks.json",
    }
)
"""What anybody may ask for; so is the way in, below PUBLIC_PREFIX."""
PUBLIC_PREFIX: Final = "/v1/auth/"


class Permission(NamedTuple):
    """A row of the table: a call, the sets of scopes of which one is enough, and the roles."""

    method: str
    path: str
    rights: tuple[frozenset[Scope], ...]
    roles: frozenset[Role]

    @property
    def is_public(self) -> bool:
        """Whether the call asks for no caller at all."""
        return not self.rights


def permissions(operations: Iterable[Operation] = OPERATIONS) -> list[Permission]:
    """Return the table; raises ValueError for a call without a scope that is not to be public."""
    return [_permission(operation) for operation in operations]


def _permission(operation: Operation) -> Permission:
    path = operation.path
    is_public = path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIX)
    if operation.scope is None and not is_public:
        raise ValueError(f"{operation.method} {path} has no scope, and is not public")
    roles = frozenset(
        role for role, scopes in ROLE_SCOPES.items() if operation.is_open_to(with_implied(scopes))
    )
    return Permission(operation.method, path, operation.rights, roles)
