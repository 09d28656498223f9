"""What schemathesis makes of the published document, sent by systems and by people who sign in."""

import asyncio
from pathlib import Path
from typing import Final

from contracts.scopes import Role
from tests.integration.ingress.serving import new_api_key
from tests.integration.people.persons import People, Person
from tools.generated_requests import (
    CHANGES_OTHERS,
    ENDLESS,
    ENDS_THE_SESSION,
    Tried,
    try_operations,
)
from tools.proving import where_programs_are

CASES_MIN: Final = 500
"""Of all callers together: with fewer, the generator makes nothing, or a filter is too wide."""
EXAMPLES: Final = 2
"""Of each operation, beside those of the document: a run of three callers has to last seconds."""
_PASSWORD: Final = "not the one in any example"  # whoever sends the right one deletes the account


async def test_no_request_gets_a_5xx_or_what_the_document_does_not_announce(
    people: People, tmp_path: Path
) -> None:
    doors = people.doors
    system = await new_api_key(doors.database_url, "generated")
    persons = {role: await _person(people, role) for role in (Role.CUSTOMER, Role.OPERATOR)}

    async def tried(who: str, token: str, excluded: frozenset[str]) -> Tried:
        return await asyncio.to_thread(
            try_operations,
            doors.system.http_url,
            token,
            examples=EXAMPLES,
            directory=tmp_path / who,
            environment=where_programs_are(),
            phases=("examples", "fuzzing"),
            excluded=excluded,
        )

    runs = await asyncio.gather(
        # What is for administrators a system with every scope may do, too.
        tried("system", system, ENDLESS | CHANGES_OTHERS),
        *(
            tried(role, one.tokens["access_token"], ENDLESS | ENDS_THE_SESSION)
            for role, one in persons.items()
        ),
    )
    still_in = [(await one.call("GET", "/v1/users/me")).json["role"] for one in persons.values()]

    assert [one.log.read_text() for one in runs if not one.is_well] == []
    assert sum(one.cases for one in runs) >= CASES_MIN, [one.told for one in runs]
    assert still_in == list(persons)


async def _person(people: People, role: Role) -> Person:
    """Return somebody new, logged in, whose password no example has."""
    email = await people.register(password=_PASSWORD)
    await people.fetch("UPDATE users SET role = $2::text::user_role WHERE email = $1", email, role)
    return await people.log_in(email, _PASSWORD)
