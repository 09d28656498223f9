"""The permission table holds on the wire: every route with every scope, and with every role."""

from collections.abc import Collection
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from contracts.operations import OPERATIONS, Operation
from contracts.permissions import Permission, permissions
from contracts.scopes import KEY_SCOPES, Role, Scope, with_implied
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.people import peoples_door
from tests.integration.ingress.serving import CheckedDoors, MakeClient, new_api_key
from tests.support import Answer, deposit, transfer

_PERMISSIONS = permissions()
_GUARDED = [one for one in _PERMISSIONS if not one.is_public]
_BODIES: dict[str, Any] = {
    "/v1/wallets": {"currency": "USD"},
    "/v1/transactions": transfer(str(uuid4()), str(uuid4()), "1"),
    "/v1/transactions/batch": {"transactions": [{}]},
    "/v1/transactions/preview": transfer(str(uuid4()), str(uuid4()), "1"),
    "/v1/wallets/{wallet_id}": {"metadata": {}},
}
_QUERIES = {
    "/v1/dead-letters/replay": "?submitter=nobody",
    "/v1/dead-letters/discard": "?submitter=nobody",
}
"""So that a walk through the routes changes nothing for others."""


def _name(one: Permission) -> str:
    return f"{one.method} {one.path}"


async def _call(api: CheckedApi, one: Permission) -> Answer:
    path = one.path
    for operation in OPERATIONS:
        if (operation.method, operation.path) == (one.method, one.path):
            for parameter in operation.parameters:
                path = path.replace(f"{{{parameter.name}}}", str(uuid4()))
    body = _BODIES.get(one.path, {}) if one.method in {"POST", "PATCH"} else None
    headers = {"Idempotency-Key": uuid4().hex} if one.method == "POST" else None
    return await api.call(one.method, path + _QUERIES.get(one.path, ""), json=body, headers=headers)


async def _client(doors: CheckedDoors, scopes: Collection[str]) -> CheckedApi:
    """Return a client whose key has exactly these scopes, those of people included."""
    key = await new_api_key(doors.database_url, f"c{uuid4().hex}", {Scope.WALLETS_READ})
    connection = await connect(doors.database_url, name="test")
    try:
        await connection.execute(
            "UPDATE api_keys SET scopes = $2 WHERE key_prefix = $1", key[:12], list(scopes)
        )
    finally:
        await connection.close()
    return CheckedApi(doors.system.http_url, key)


@pytest.mark.parametrize("scope", list(Scope))
async def test_every_route_answers_to_its_scope_and_to_no_other(
    doors: CheckedDoors, scope: Scope
) -> None:
    wrong = []
    async with await _client(doors, {scope}) as api:
        for one in _GUARDED:
            answer = await _call(api, one)
            if one.rights == (frozenset({Scope.PROFILE}),) and scope is Scope.PROFILE:
                continue  # a key is no person, whatever its row says: these routes look at that
            is_open = any(right <= with_implied({scope}) for right in one.rights)
            if (answer.status not in {401, 403}) is not is_open:
                wrong.append((_name(one), answer.status))

    assert wrong == []


@pytest.mark.parametrize("role", list(Role))
async def test_every_route_is_open_to_the_roles_of_the_table_and_to_no_other(
    doors: CheckedDoors, role: Role
) -> None:
    wrong = []
    async with peoples_door(doors) as door, door.come_in(role) as api:
        for one in _GUARDED:
            answer = await _call(api, one)
            if (answer.status != 403) is not (role in one.roles):
                wrong.append((_name(one), answer.status))

    assert wrong == []


@pytest.mark.parametrize("one", _GUARDED, ids=_name)
async def test_every_route_that_is_not_public_asks_who_calls(
    doors: CheckedDoors, one: Permission
) -> None:
    async with CheckedApi(doors.system.http_url, None) as nobody:
        answer = await _call(nobody, one)

    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_refusal_names_the_scope_that_is_missing(
    make_client: MakeClient,
) -> None:
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


async def test_what_the_server_routes_has_a_row(doors: CheckedDoors) -> None:
    """Every other path is no path: what is served beside the table is its page's static files."""
    async with CheckedApi(doors.system.http_url, doors.system.api_key) as api:
        for path in ("/v1", "/v1/forgotten", "/metrics", "/admin"):
            assert (await api.get(path)).status == web.HTTPNotFound.status_code
    assert {(one.method, one.path) for one in _PERMISSIONS} == {
        (one.method, one.path) for one in OPERATIONS
    }


def test_no_key_has_the_scope_of_people() -> None:
    assert Scope.PROFILE not in KEY_SCOPES
