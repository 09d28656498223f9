"""Accounts: registered, confirmed, changed and deleted, and what strangers learn of them."""

import asyncio
from uuid import uuid4

import pytest

from runtime.postgres.pool import connect
from tests.integration.people.persons import PASSWORD, People, new_email
from tests.support import Answer, eventually, withdrawal

OTHER = "seven lamps of architecture"
INGRESS_CONNECTIONS = 10
"""That an ingress has for submissions and sign-ins, by default."""
IN_NOBODY_S_WAY_S = 4.0
"""Less than a request waits for a connection."""


async def test_a_registered_person_confirms_the_address_and_logs_in(people: People) -> None:
    email = new_email()
    registered = await people.post("register", email=email.upper(), password=PASSWORD, name="Ada")
    early = await people.post("login", email=email, password=PASSWORD)
    confirmed = await people.post("confirm", token=await people.mailed_token(email))
    person = await people.log_in(email)
    me = (await person.call("GET", "/v1/users/me")).json

    assert registered.status == 202
    assert (early.status, early.code) == (401, "invalid_credentials")
    assert (confirmed.json["status"], confirmed.json["role"]) == ("ACTIVE", "customer")
    assert me == confirmed.json
    assert (me["email"], me["name"]) == (email, "Ada")


async def test_a_token_from_a_mail_is_good_for_one_use(people: People) -> None:
    email = new_email()
    await people.post("register", email=email, password=PASSWORD)
    token = await people.mailed_token(email)
    answers = await asyncio.gather(*(people.post("confirm", token=token) for _ in range(4)))

    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401]
    assert {answer.code for answer in answers if answer.status == 401} == {"token_invalid"}


async def test_a_token_is_good_for_its_purpose_alone(people: People) -> None:
    email = new_email()
    await people.post("register", email=email, password=PASSWORD)
    token = await people.mailed_token(email)
    answer = await people.post("password/reset", token=token, password=OTHER)

    assert (answer.status, answer.code) == (401, "token_invalid")


async def test_a_token_that_is_over_is_good_for_nothing(people: People) -> None:
    email = new_email()
    await people.post("register", email=email, password=PASSWORD)
    await people.fetch(
        "UPDATE user_tokens SET expires_at = clock_timestamp() FROM users AS u "
        "WHERE u.id = user_id AND u.email = $1",
        email,
    )
    answer = await people.post("confirm", token=await people.mailed_token(email))

    assert (answer.status, answer.code) == (401, "token_invalid")


async def test_each_registration_confirms_its_own_password(people: People) -> None:
    """Whoever registers a stranger's address has not chosen the stranger's password."""
    email = new_email()
    await people.post("register", email=email, password="chosen by an attacker")
    await people.post("register", email=email, password=PASSWORD)
    await people.post("confirm", token=await people.mailed_token(email))
    refused = await people.post("login", email=email, password="chosen by an attacker")

    assert (await people.log_in(email)).tokens["token_type"] == "Bearer"
    assert refused.status == 401


async def test_nobody_learns_by_the_answer_whether_an_address_is_known(people: People) -> None:
    known, unconfirmed, unknown = await people.register(), new_email(), new_email()
    await people.post("register", email=unconfirmed, password=PASSWORD)

    async def answers(path: str, emails: list[str], **body: str) -> list[Answer]:
        return [await people.post(path, email=email, **body) for email in emails]

    registered = await answers("register", [known, unconfirmed, new_email()], password=OTHER)
    forgot = await answers("password/forgot", [known, unconfirmed, unknown])
    refused = await answers("login", [known, unconfirmed, unknown], password="not the password")
    assert {(one.status, one.body) for one in registered} == {(202, registered[0].body)}
    assert {(one.status, one.body) for one in forgot} == {(202, registered[0].body)}
    for one in refused:
        told = {name: one.json[name] for name in ("status", "code", "title", "detail", "errors")}
        assert told == {
            "status": 401,
            "code": "invalid_credentials",
            "title": "The address or the password is wrong",
            "detail": "the address or the password is wrong",
            "errors": [],
        }


async def test_the_mail_says_what_the_answer_does_not(people: People) -> None:
    known, unknown = await people.register(), new_email()
    await people.post("register", email=known, password=OTHER)
    await people.post("password/forgot", email=unknown)

    assert [one["subject"] for one in await people.mails(known)] == [
        "Confirm your address",
        "You have an account already",
    ]
    assert await people.mails(unknown) == []
    assert (await people.log_in(known)).email == known


async def test_many_who_ask_for_one_address_at_once_wait_in_nobody_s_way(people: People) -> None:
    person = await people.person()
    connection = await connect(people.doors.database_url, name="test")
    known = len(await people.mails(person.email))
    async with connection.transaction():
        await connection.execute("SELECT FROM users WHERE email = $1 FOR UPDATE", person.email)
        asking = [
            asyncio.create_task(people.post("password/forgot", email=person.email))
            for _ in range(2 * INGRESS_CONNECTIONS)
        ]
        await eventually(lambda: _waiting(people), what="one waits for the account's lock")
        async with asyncio.timeout(IN_NOBODY_S_WAY_S):
            await people.register()
    await connection.close()
    answers = await asyncio.gather(*asking)

    assert {one.status for one in answers} == {202}
    assert len(await people.mails(person.email)) == known + 1


async def _waiting(people: People) -> bool:
    rows = await people.fetch(
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    return bool(rows)


async def test_nobody_s_mailbox_is_filled(people: People) -> None:
    email = await people.register()
    for _ in range(8):
        assert (await people.post("password/forgot", email=email)).status == 202

    assert len(await people.mails(email)) == 1 + 5


@pytest.mark.parametrize(
    ("password", "detail"),
    [
        ("short", "must have at least 8 characters"),
        ("password123", "is one of those that are tried first"),
        ("aaaaaaaaaaaa", "is one of those that are tried first"),
        ("{local}!!", "must not contain your e-mail address"),
    ],
)
async def test_weak_passwords_are_refused_with_their_reason(
    people: People, password: str, detail: str
) -> None:
    email = new_email()
    answer = await people.post(
        "register", email=email, password=password.format(local=email.partition("@")[0])
    )

    assert (answer.status, answer.code) == (422, "password_too_weak")
    assert answer.json["errors"] == [{"pointer": "/password", "detail": detail}]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("register", {"role": "admin"}, "/role"),
        ("register", {"status": "ACTIVE"}, "/status"),
        ("register", {"email": "no address"}, "/email"),
        ("register", {"email": "a@b.example\r\nBcc: x@example.com"}, "/email"),
        ("register", {"password": None}, "/password"),
        ("register", {"password": "x" * 129}, "/password"),
        ("register", {"name": ""}, "/name"),
        ("login", {"password": ["x"]}, "/password"),
    ],
)
async def test_what_the_contract_does_not_know_is_refused(
    people: People, path: str, body: dict[str, object], pointer: str
) -> None:
    answer = await people.post(path, **{"email": new_email(), "password": PASSWORD, **body})

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


async def test_a_password_is_changed_by_whoever_knows_it(people: People) -> None:
    email = await people.register()
    person, elsewhere = await people.log_in(email), await people.log_in(email)
    body = {"password": PASSWORD, "new_password": OTHER}
    wrong = await person.call(
        "POST", "/v1/auth/password/change", {**body, "password": "not the password"}
    )
    weak = await person.call(
        "POST", "/v1/auth/password/change", {**body, "new_password": "password1"}
    )
    changed = await person.call("POST", "/v1/auth/password/change", body)

    async def ended() -> bool:
        return (await elsewhere.call("GET", "/v1/users/me")).status == 401

    await eventually(ended, what="the other session is over", within_s=2)
    assert (wrong.status, wrong.code) == (401, "invalid_credentials")
    assert (weak.status, weak.json["errors"][0]["pointer"]) == (422, "/new_password")
    assert changed.status == 204
    assert (await person.call("GET", "/v1/users/me")).status == 200
    assert (await people.post("login", email=email, password=PASSWORD)).status == 401
    assert (await people.log_in(email, OTHER)).email == email
    assert (await people.mails(email))[-1]["subject"] == "Your password was changed"


async def test_a_forgotten_password_is_set_anew(people: People) -> None:
    email = await people.register()
    person = await people.log_in(email)
    await people.post("password/forgot", email=email)
    token = await people.mailed_token(email)
    weak = await people.post("password/reset", token=token, password="12345678")
    done = await people.post("password/reset", token=token, password=OTHER)
    again = await people.post("password/reset", token=token, password=PASSWORD)

    async def ended() -> bool:
        return (await person.call("GET", "/v1/users/me")).status == 401

    await eventually(ended, what="the session is over", within_s=2)
    assert (weak.status, done.status, again.status) == (422, 204, 401)
    assert (await people.log_in(email, OTHER)).email == email
    assert (
        await people.post("refresh", refresh_token=person.tokens["refresh_token"])
    ).status == 401


async def test_a_mail_that_resets_the_password_confirms_the_address(people: People) -> None:
    email = new_email()
    await people.post("register", email=email, password=PASSWORD)
    await people.post("password/forgot", email=email)
    await people.post("password/reset", token=await people.mailed_token(email), password=OTHER)
    person = await people.log_in(email, OTHER)

    [wallet] = (await person.call("GET", "/v1/wallets", owner_id=str(await person.id()))).json[
        "items"
    ]
    assert wallet["currency"] == "EUR"


async def test_a_person_begins_with_an_empty_wallet_and_makes_one_in_each_currency(
    people: People,
) -> None:
    person = await people.person()
    owner = str(await person.id())
    answers = await asyncio.gather(
        *(person.call("POST", "/v1/wallets", {"currency": "USD"}) for _ in range(6)),
        person.call("POST", "/v1/wallets", {"currency": "EUR"}),
    )

    assert sorted(answer.status for answer in answers) == [201, *[409] * 6]
    assert {one.code for one in answers if one.status == 409} == {"wallet_limit_reached"}
    wallets = (await person.call("GET", "/v1/wallets", owner_id=owner)).json["items"]
    assert {(one["currency"], one["balance"]) for one in wallets} == {
        ("EUR", "0.00"),
        ("USD", "0.00"),
    }


async def test_systems_make_as_many_wallets_for_an_owner_as_they_like(people: People) -> None:
    owner = uuid4().hex
    answers = [
        await people.doors.api.call(
            "POST", "/v1/wallets", json={"currency": "USD", "owner_id": owner}
        )
        for _ in range(3)
    ]

    assert [answer.status for answer in answers] == [201] * 3


async def test_a_profile_is_changed_in_what_it_may(people: People) -> None:
    person = await people.person()
    changed = await person.call("PATCH", "/v1/users/me", {"name": "Ada", "is_mail_wanted": True})
    unnamed = await person.call("PATCH", "/v1/users/me", {"name": None})
    refused = [
        await person.call("PATCH", "/v1/users/me", body)
        for body in ({"role": "admin"}, {"status": "ACTIVE"}, {"email": "x@example.com"}, {})
    ]

    assert (changed.json["name"], changed.json["is_mail_wanted"]) == ("Ada", True)
    assert (unnamed.json["name"], unnamed.json["is_mail_wanted"]) == (None, True)
    assert [answer.status for answer in refused] == [422] * 4


async def test_an_account_is_deleted_once_its_wallets_are_empty(people: People) -> None:
    person = await people.person()
    owner = str(await person.id())
    [wallet] = (await person.call("GET", "/v1/wallets", owner_id=owner)).json["items"]
    api = people.doors.api
    await api.deposit(wallet["id"], "5.00", "EUR")
    full = await person.call("DELETE", "/v1/users/me", {"password": PASSWORD})
    wrong = await person.call("DELETE", "/v1/users/me", {"password": "not the password"})
    await api.submit(withdrawal(wallet["id"], "5.00", "EUR"))
    path = f"/v1/wallets/{wallet['id']}"
    await api.call("PATCH", path, json={"status": "FROZEN"})
    frozen = await person.call("DELETE", "/v1/users/me", {"password": PASSWORD})
    await api.call("PATCH", path, json={"status": "ACTIVE"})
    done = await person.call("DELETE", "/v1/users/me", {"password": PASSWORD})

    assert (full.status, full.code) == (409, "wallet_not_empty")
    assert (wrong.status, wrong.code) == (401, "invalid_credentials")
    assert (frozen.status, frozen.code) == (403, "insufficient_scope")
    assert done.status == 204
    assert (await api.get(f"/v1/wallets/{wallet['id']}")).json["status"] == "CLOSED"
    assert (await people.post("login", email=person.email, password=PASSWORD)).status == 401
    assert await people.register(person.email) == person.email


async def test_a_person_is_told_where_a_webhook_leads(people: People) -> None:
    person = await people.person()
    await person.call("PATCH", "/v1/users/me", {"is_mail_wanted": False})
    made = await person.call(
        "POST", "/v1/webhooks", {"url": "https://shop.example/in", "event_types": ["*"]}
    )
    path = f"/v1/webhooks/{made.json['id']}"
    await person.call("PATCH", path, {"event_types": ["transaction.failed"]})
    await person.call("PATCH", path, {"url": "https://evil.example/in"})
    texts = [one["text"] for one in await people.mails(person.email)]

    assert [text.split()[10] for text in texts if "webhook" in text] == [
        "https://shop.example/in",
        "https://evil.example/in",
    ]
