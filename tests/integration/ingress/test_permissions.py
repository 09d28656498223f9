"""The permission table holds on the wire for keys: every route with every scope.

With every role: tests/integration/people/test_roles.py.
"""

from uuid import uuid4

import pytest

from contracts.operations import OPERATIONS, Operation
from contracts.permissions import Permission, permissions
from contracts.scopes import KEY_SCOPES, Scope, with_implied
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.routes import (
    GUARDED,
    PERMISSIONS,
    call_route,
    is_let_in,
    name_of,
)
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.support import deposit


@pytest.mark.parametrize("scope", KEY_SCOPES)
async def test_every_route_answers_to_its_scope_and_to_no_other(
    make_client: MakeClient, scope: Scope
) -> None:
    api = await make_client(scopes={scope})
    wrong = []
    for one in GUARDED:
        answer = await call_route(api, one)
        if is_let_in(answer) is not any(right <= with_implied({scope}) for right in one.rights):
            wrong.append((name_of(one), answer.status))

    assert wrong == []


async def test_with_all_of_a_key_s_scopes_every_route_is_open_but_those_of_people(
    make_client: MakeClient,
) -> None:
    api = await make_client(scopes=KEY_SCOPES)
    closed = {name_of(one) for one in GUARDED if not is_let_in(await call_route(api, one))}

    assert closed == {name_of(one) for one in GUARDED if Scope.PROFILE in one.rights[0]}


@pytest.mark.parametrize("one", GUARDED, ids=name_of)
async def test_every_route_that_is_not_public_asks_who_calls(
    doors: CheckedDoors, one: Permission
) -> None:
    async with CheckedApi(doors.system.http_url, None) as nobody:
        answer = await call_route(nobody, one)

    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_refusal_names_the_scope_that_is_missing(make_client: MakeClient) -> None:
    api = await make_client(scopes={Scope.WALLETS_READ})
    preview = await api.call("POST", "/v1/transactions/preview", json=deposit(str(uuid4()), "1"))
    seals = await api.get("/v1/seals")

    assert (preview.status, preview.code) == (403, "insufficient_scope")
    assert "transactions:write and wallets:read" in preview.json["detail"]
    assert "transactions:read or operations:read" in seals.json["detail"]


def test_a_route_without_a_scope_that_is_not_meant_to_be_public_has_no_row() -> None:
    public = next(one for one in OPERATIONS if one.scope is None)
    forgotten = Operation(
        operation_id="forgotten",
        method="GET",
        path="/v1/forgotten",
        tag=public.tag,
        summary="Forgotten",
        description="It has no scope.",
        scope=None,
        responses=public.responses,
    )

    with pytest.raises(ValueError, match="/v1/forgotten has no scope"):
        permissions([*OPERATIONS, forgotten])


async def test_what_the_server_routes_has_a_row(make_client: MakeClient) -> None:
    """The routes are made of the same table; what is beside it, is nothing."""
    api = await make_client()
    statuses = {(await api.get(path)).status for path in ("/v1", "/v1/nothing", "/metrics")}

    assert statuses == {404}
    assert [(one.method, one.path) for one in PERMISSIONS] == [
        (one.method, one.path) for one in OPERATIONS
    ]
