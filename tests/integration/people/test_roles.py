"""The permission table holds on the wire for people: every route with every role."""

from typing import Final

import pytest

from contracts.scopes import Role
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.routes import GUARDED, call_route, is_let_in, name_of
from tests.integration.people.persons import People

_ENDING: Final = frozenset({"POST /v1/auth/logout", "DELETE /v1/users/me"})
"""What ends the session that it is called with: somebody else calls it."""


@pytest.mark.parametrize("role", list(Role))
async def test_every_route_is_open_to_the_roles_of_the_table_and_to_no_other(
    people: People, role: Role
) -> None:
    url = people.doors.system.http_url
    wrong = []
    async with (
        CheckedApi(url, (await people.person(role)).tokens["access_token"]) as api,
        CheckedApi(url, (await people.person(role)).tokens["access_token"]) as logging_out,
        CheckedApi(url, (await people.person(role)).tokens["access_token"]) as leaving,
    ):
        others = dict(zip(sorted(_ENDING), (leaving, logging_out), strict=True))
        for one in GUARDED:
            answer = await call_route(others.get(name_of(one), api), one)
            if is_let_in(answer) is not (role in one.roles):
                wrong.append((name_of(one), answer.status))

    assert wrong == []
