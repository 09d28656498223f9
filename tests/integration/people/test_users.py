"""Accounts as administrators see and change them."""

from uuid import uuid4

import pytest

from tests.integration.people.persons import PASSWORD, People, new_email
from tests.support import eventually

_CALLS = [
    ("GET", "/v1/users", None),
    ("GET", "/v1/users/{id}", None),
    ("PATCH", "/v1/users/{id}", {"role": "admin"}),
]


@pytest.mark.parametrize("role", ["customer", "operator"])
@pytest.mark.parametrize(("method", "path", "body"), _CALLS)
async def test_accounts_are_for_administrators(
    people: People, role: str, method: str, path: str, body: object
) -> None:
    person = await people.person(role)
    answer = await person.call(method, path.format(id=await person.id()), body)

    assert (answer.status, answer.code) == (403, "insufficient_scope")


async def test_auditors_look_and_change_nothing(people: People) -> None:
    auditor, other = await people.person("auditor"), await people.person()
    path = f"/v1/users/{await other.id()}"
    read = await auditor.call("GET", path)
    changed = await auditor.call("PATCH", path, {"role": "admin"})

    assert read.json["email"] == other.email
    assert changed.status == 403


async def test_an_administrator_finds_accounts(people: People) -> None:
    admin, other = await people.person("admin"), await people.person()
    by_email = await admin.call("GET", "/v1/users", email=other.email.upper())
    by_role = await admin.call("GET", "/v1/users", role="admin", limit="1")
    none = await admin.call("GET", "/v1/users", email=other.email, role="admin")
    wrong = await admin.call("GET", "/v1/users", email="no address")

    assert [one["email"] for one in by_email.json["items"]] == [other.email]
    assert [one["role"] for one in by_role.json["items"]] == ["admin"]
    assert none.json["items"] == []
    assert (wrong.status, wrong.code) == (400, "invalid_parameter")


async def test_pages_of_accounts_follow_each_other(people: People) -> None:
    admin = await people.person("admin")
    everybody = (await admin.call("GET", "/v1/users", limit="200")).json["items"]
    page = (await admin.call("GET", "/v1/users", limit="3")).json
    found = page["items"]
    while page["next_cursor"] is not None:
        page = (await admin.call("GET", "/v1/users", limit="3", cursor=page["next_cursor"])).json
        found += page["items"]

    assert [one["id"] for one in found][:200] == [one["id"] for one in everybody]


async def test_a_disabled_person_is_out_within_a_second_and_may_be_let_in_again(
    people: People,
) -> None:
    admin, other = await people.person("admin"), await people.person()
    path = f"/v1/users/{await other.id()}"
    disabled = await admin.call("PATCH", path, {"status": "DISABLED"})

    async def is_out() -> bool:
        return (await other.call("GET", "/v1/users/me")).status == 401

    await eventually(is_out, what="the person is out", within_s=1.5)
    refused = await people.post("login", email=other.email, password=PASSWORD)
    token = other.tokens["refresh_token"]
    stale = await people.post("refresh", refresh_token=token)
    await admin.call("PATCH", path, {"status": "ACTIVE"})
    again = await people.log_in(other.email)

    assert disabled.json["status"] == "DISABLED"
    assert (refused.status, refused.code) == (401, "invalid_credentials")
    assert stale.status == (await people.post("refresh", refresh_token=token)).status == 401
    logins = (await again.call("GET", "/v1/users/me/logins")).json["items"]
    assert [one["outcome"] for one in logins] == ["succeeded", "disabled", "succeeded"]


async def test_a_role_is_changed_and_audited(people: People) -> None:
    admin, other = await people.person("admin"), await people.person()
    user_id = await other.id()
    changed = await admin.call("PATCH", f"/v1/users/{user_id}", {"role": "operator"})
    [row] = await people.fetch(
        "SELECT actor, detail FROM audit_log WHERE subject = $1 AND action = 'user.changed'",
        f"user:{user_id}",
    )

    assert changed.json["role"] == "operator"
    assert row["actor"] == f"user:{await admin.id()}"
    assert '"operator"' in row["detail"]


async def test_what_cannot_be_changed_is_refused(people: People) -> None:
    admin = await people.person("admin")
    unconfirmed = new_email()
    await people.post("register", email=unconfirmed, password=PASSWORD)
    [found] = (await admin.call("GET", "/v1/users", email=unconfirmed)).json["items"]
    own = await admin.call("PATCH", f"/v1/users/{await admin.id()}", {"role": "customer"})
    early = await admin.call("PATCH", f"/v1/users/{found['id']}", {"status": "ACTIVE"})
    unknown = await admin.call("PATCH", f"/v1/users/{uuid4()}", {"status": "ACTIVE"})
    unread = await admin.call("GET", f"/v1/users/{uuid4()}")
    strange = [
        await admin.call("PATCH", f"/v1/users/{found['id']}", body)
        for body in (
            {},
            {"status": "DELETED"},
            {"status": "UNCONFIRMED"},
            {"status": None},
            {"role": "owner"},
            {"email": "x@example.com"},
            {"password_hash": "x"},
        )
    ]

    assert (own.status, own.code) == (403, "not_permitted")
    assert (early.status, early.code) == (409, "user_not_changeable")
    assert (unknown.status, unknown.code) == (404, "user_not_found")
    assert (unread.status, unread.code) == (404, "user_not_found")
    assert [answer.status for answer in strange] == [422] * len(strange)


async def test_a_deleted_account_stays_as_it_is(people: People) -> None:
    admin, other = await people.person("admin"), await people.person()
    path = f"/v1/users/{await other.id()}"
    await other.call("DELETE", "/v1/users/me", {"password": PASSWORD})
    changed = await admin.call("PATCH", path, {"status": "ACTIVE"})
    listed = await admin.call("GET", "/v1/users", status="DELETED", limit="200")

    assert (await admin.call("GET", path)).json["status"] == "DELETED"
    assert (changed.status, changed.code) == (409, "user_not_changeable")
    assert path.rpartition("/")[2] in {one["id"] for one in listed.json["items"]}


async def test_a_system_s_key_is_nobody_s_account(people: People) -> None:
    """It has no scope for one, whatever else it may do."""
    for method, path in (
        ("GET", "/v1/users/me"),
        ("GET", "/v1/auth/sessions"),
        ("POST", "/v1/auth/logout"),
    ):
        answer = await people.doors.api.call(method, path)
        assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert (await people.doors.api.get("/v1/users")).status == 200
