"""Every route of the permission table, called so that a walk through them changes nothing."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from contracts.operations import OPERATIONS
from contracts.permissions import Permission, permissions
from tests.integration.ingress.document import CheckedApi
from tests.support import Answer, deposit

PERMISSIONS: Final = permissions()
GUARDED: Final = [one for one in PERMISSIONS if not one.is_public]
"""Those that ask who calls."""

_OPERATIONS: Final = {f"{one.method} {one.path}": one for one in OPERATIONS}
_BODIES: Final[Mapping[str, Any]] = {
    "/v1/wallets": {"currency": "USD"},
    "/v1/transactions": deposit(str(uuid4()), "1"),
    "/v1/transactions/batch": {"transactions": [{}]},
    "/v1/transactions/preview": deposit(str(uuid4()), "1"),
    "/v1/wallets/{wallet_id}": {"status": "FROZEN"},
}
_FOR_PAGES: Final = {"Accept": "application/json"}
"""Events come as a page, not as an answer without an end."""
_QUERIES: Final[Mapping[str, str]] = {
    "/v1/dead-letters/replay": "?submitter=nobody",
    "/v1/dead-letters/discard": "?submitter=nobody",
}


def name_of(one: Permission) -> str:
    """Return how a route is called in a report."""
    return f"{one.method} {one.path}"


async def call_route(api: CheckedApi, one: Permission) -> Answer:
    """Call a route with ids that nothing has."""
    operation = _OPERATIONS[name_of(one)]
    path = one.path
    for parameter in operation.parameters:
        path = path.replace(f"{{{parameter.name}}}", str(uuid4()))
    return await api.call(
        one.method,
        path + _QUERIES.get(one.path, ""),
        json=None if operation.request is None else _BODIES.get(one.path, {}),
        headers={"Idempotency-Key": uuid4().hex} if one.method == "POST" else _FOR_PAGES,
    )


def is_let_in(answer: Answer) -> bool:
    """Whether a caller was let in to a route, whatever came of it then."""
    return answer.status not in {401, 403}
