"""Sessions: kept by refresh tokens of one use, listed and ended, and told of."""

import asyncio
from uuid import UUID, uuid4

import argon2

from ingress.http.people import KEYS_CACHED_S
from ingress.people.passwords import TURN_MOST_S
from tests.integration.people.persons import PASSWORD, People, Person
from tests.support import Answer, eventually


async def refreshed(people: People, token: str) -> Answer:
    """Exchange a refresh token."""
    return await people.post("refresh", refresh_token=token)


async def is_over(person: Person) -> bool:
    """Whether the access token lets nobody in any more."""
    return (await person.call("GET", "/v1/users/me")).status == 401


async def test_a_refresh_token_is_exchanged_for_the_next_one(people: People) -> None:
    person = await people.person()
    first = await refreshed(people, person.tokens["refresh_token"])
    second = await refreshed(people, first.json["refresh_token"])
    person.tokens = second.json

    assert first.status == second.status == 200
    assert first.headers["Cache-Control"] == "no-store"
    assert first.json["expires_in"] == 600
    assert (await person.call("GET", "/v1/users/me")).json["email"] == person.email
    sessions = (await person.call("GET", "/v1/auth/sessions")).json["items"]
    assert [one["is_current"] for one in sessions] == [True]


async def test_a_refresh_token_that_is_used_twice_ends_its_session(people: People) -> None:
    person = await people.person()
    stolen = person.tokens["refresh_token"]
    following = (await refreshed(people, stolen)).json["refresh_token"]
    again = await refreshed(people, stolen)
    after = await refreshed(people, following)

    async def ended() -> bool:
        return await is_over(person)

    await eventually(ended, what="the session is over", within_s=2)
    assert (again.status, again.code) == (401, "token_invalid")
    assert (after.status, after.code) == (401, "token_invalid")
    other = await people.log_in(person.email)
    logins = (await other.call("GET", "/v1/users/me/logins")).json["items"]
    assert [one["outcome"] for one in logins] == ["succeeded", "token_reused", "succeeded"]


async def test_of_two_who_race_with_one_refresh_token_one_wins_and_the_session_ends(
    people: People,
) -> None:
    for _ in range(5):
        person = await people.person()
        token = person.tokens["refresh_token"]
        answers = await asyncio.gather(*(refreshed(people, token) for _ in range(8)))
        [won] = [answer for answer in answers if answer.status == 200]

        assert sorted(answer.status for answer in answers) == [200, *[401] * 7]
        assert (await refreshed(people, won.json["refresh_token"])).status == 401


async def test_a_text_that_is_no_refresh_token_is_refused(people: People) -> None:
    person = await people.person()
    for token in ("x", "ack_refresh_" + "x" * 43, person.tokens["access_token"][:200]):
        answer = await refreshed(people, token)
        assert (answer.status, answer.code) == (401, "token_invalid")


async def test_sessions_are_listed_and_ended_one_by_one(people: People) -> None:
    email = await people.register()
    here, elsewhere = await people.log_in(email), await people.log_in(email)
    listed = (await here.call("GET", "/v1/auth/sessions")).json["items"]
    other_id = next(one["id"] for one in listed if not one["is_current"])
    done = [await here.call("DELETE", f"/v1/auth/sessions/{other_id}") for _ in range(2)]

    async def ended() -> bool:
        return await is_over(elsewhere)

    await eventually(ended, what="the other session is over", within_s=2)
    assert [answer.status for answer in done] == [204, 204]
    assert [one["agent"][:6] for one in listed] == ["Python"] * 2
    assert {one["address"] for one in listed} == {"127.0.0.1"}
    assert len((await here.call("GET", "/v1/auth/sessions")).json["items"]) == 1
    assert (await refreshed(people, elsewhere.tokens["refresh_token"])).status == 401


async def test_another_s_session_and_notification_do_not_exist(people: People) -> None:
    mine, theirs = await people.person(), await people.person()
    [session] = (await theirs.call("GET", "/v1/auth/sessions")).json["items"]
    [notice] = (await theirs.call("GET", "/v1/users/me/notifications")).json["items"]
    ended = await mine.call("DELETE", f"/v1/auth/sessions/{session['id']}")
    missing = await mine.call("DELETE", f"/v1/auth/sessions/{uuid4()}")
    read = await mine.call("POST", f"/v1/users/me/notifications/{notice['id']}/read")

    assert (
        (ended.status, ended.code) == (missing.status, missing.code) == (404, "session_not_found")
    )
    assert (read.status, read.code) == (404, "notification_not_found")
    assert not await is_over(theirs)


async def test_logging_out_ends_the_session_within_a_second(people: People) -> None:
    person = await people.person()
    done = await person.call("POST", "/v1/auth/logout")

    async def ended() -> bool:
        return await is_over(person)

    await eventually(ended, what="the session is over", within_s=1.5)
    assert done.status == 204
    assert (await refreshed(people, person.tokens["refresh_token"])).status == 401


async def test_the_login_log_says_what_became_of_each_attempt(people: People) -> None:
    email = await people.register()
    await people.post("login", email=email, password="not the password")
    person = await people.log_in(email)
    first = await person.call("GET", "/v1/users/me/logins", limit="1")
    rest = await person.call("GET", "/v1/users/me/logins", cursor=first.json["next_cursor"])

    [succeeded], [failed] = first.json["items"], rest.json["items"]
    assert (succeeded["outcome"], failed["outcome"]) == ("succeeded", "wrong_password")
    assert failed["address"] == "127.0.0.1"
    assert rest.json["next_cursor"] is None


async def test_an_unknown_address_is_logged_too(people: People) -> None:
    email = f"nobody{uuid4().hex}@example.com"
    await people.post("login", email=email, password=PASSWORD)
    rows = await people.fetch("SELECT user_id, outcome FROM login_log WHERE email = $1", email)

    assert [(row["user_id"], row["outcome"]) for row in rows] == [(None, "unknown_address")]


async def test_a_login_is_told_of_and_by_mail_if_wished(people: People) -> None:
    person = await people.person()
    await person.call("PATCH", "/v1/users/me", {"is_mail_wanted": True})
    later = await people.log_in(person.email)
    notices = (await later.call("GET", "/v1/users/me/notifications")).json["items"]
    path = f"/v1/users/me/notifications/{notices[0]['id']}/read"
    marked = [await later.call("POST", path) for _ in range(2)]
    again = (await later.call("GET", "/v1/users/me/notifications")).json["items"]

    assert [one["kind"] for one in notices] == ["new_login"] * 2
    assert notices[0]["body"]["address"] == "127.0.0.1"
    assert [answer.status for answer in marked] == [204, 204]
    assert [one["read_at"] is not None for one in again] == [True, False]
    assert (await people.mails(person.email))[-1]["subject"] == "New login"


async def test_a_password_is_hashed_anew_when_the_parameters_change(people: People) -> None:
    email = await people.register()
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    await people.fetch("UPDATE users SET password_hash = $2 WHERE email = $1", email, old)
    await people.log_in(email)
    [row] = await people.fetch("SELECT password_hash FROM users WHERE email = $1", email)
    await people.log_in(email)

    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_no_secret_is_stored_as_it_is(people: People) -> None:
    person = await people.person()
    await people.post("password/forgot", email=person.email)
    token = await people.mailed_token(person.email)
    stored = str(
        [
            dict(row)
            for table in ("users", "sessions", "refresh_tokens", "user_tokens", "login_log")
            for row in await people.fetch(f"SELECT * FROM {table}")
        ]
    )

    for secret in (PASSWORD, token, *map(str, person.tokens.values())):
        assert len(secret) < 10 or secret not in stored


async def test_a_flood_of_logins_is_refused_and_the_rest_is_served(people: People) -> None:
    email = await people.register()
    answers = await asyncio.gather(
        *(people.post("login", email=email, password=PASSWORD) for _ in range(200))
    )
    refused = [answer for answer in answers if answer.status == 503]

    assert {answer.status for answer in answers} == {200, 503}
    assert {one.code for one in refused} == {"sign_in_busy"}
    # They do not all come back in the same second.
    waits = {int(one.headers["Retry-After"]) for one in refused}
    assert 1 <= min(waits) < max(waits) <= TURN_MOST_S
    assert (await people.log_in(email)).email == email


async def test_the_public_keys_are_published(people: People) -> None:
    answer = await people.nobody.get("/.well-known/jwks.json")

    assert answer.headers["Cache-Control"] == f"public, max-age={KEYS_CACHED_S}"
    assert {(one["kty"], one["crv"], one["alg"]) for one in answer.json["keys"]} == {
        ("OKP", "Ed25519", "EdDSA")
    }


async def test_a_person_moves_money_on_the_fast_path(people: People) -> None:
    person = await people.person()
    owner = str(await person.id())
    [wallet] = (await person.call("GET", "/v1/wallets", owner_id=owner)).json["items"]
    other = await people.doors.api.create_wallet("EUR")
    await people.doors.api.deposit(wallet["id"], "5.00", "EUR")
    body = {
        "type": "transfer",
        "source_wallet_id": wallet["id"],
        "destination_wallet_id": other,
        "amount": "2.00",
        "currency": "EUR",
    }
    answer = await people.nobody.call(
        "POST",
        "/v1/transactions",
        json=body,
        headers={**person.authorization, "Idempotency-Key": uuid4().hex, "Prefer": "wait=10"},
    )

    assert answer.json["status"] == "COMPLETED"
    assert answer.json["submitter"] == f"user:{UUID(owner)}"
