"""A person's data is given out whole, and erased so that the books and their seals still verify."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from cli.dependencies import database_connection
from cli.personal import person as personal
from runtime.service.settings import DatabaseSettings, load_settings
from tests.integration.command_line.calling import Called, ackledger
from tests.integration.people.persons import PASSWORD, People, Person, new_email
from tests.support import deposit, eventually

pytestmark = pytest.mark.long

SECRET = "rent of Ada Lovelace"


async def _person(people: People, *, name: str = "Ada Lovelace") -> Person:
    email = new_email()
    await people.post("register", email=email, password=PASSWORD, name=name)
    await people.post("confirm", token=await people.mailed_token(email))
    return await people.log_in(email)


async def _wallet(people: People, person: Person) -> str:
    rows = await people.fetch("SELECT id FROM wallets WHERE owner_id = $1", str(await person.id()))
    return str(rows[0]["id"])


async def _spend(
    people: People, person: Person, wallet_id: str, amount: str, *, text: str = SECRET
) -> str:
    """Pay in and out again, with texts on what the person submits; return that transaction's id."""
    assert (await people.doors.api.submit(deposit(wallet_id, amount, "EUR"))).status == 200
    body = {
        "type": "withdrawal",
        "source_wallet_id": wallet_id,
        "amount": amount,
        "currency": "EUR",
        "description": text,
        "metadata": {"note": text},
    }
    answer = await people.nobody.call(
        "POST",
        "/v1/transactions",
        json=body,
        headers={
            **person.authorization,
            "Idempotency-Key": uuid4().hex,
            "Prefer": "wait=20",
            "X-Request-Id": text.replace(" ", "-"),
        },
    )
    assert answer.json["status"] == "COMPLETED", answer.body
    return str(answer.json["id"])


async def _command(people: People, directory: Path, *arguments: str) -> Called:
    variables = {"DATABASE_URL": people.doors.database_url}
    return await ackledger(*arguments, directory=directory, variables=variables)


async def _sealed(people: People, transaction_id: str) -> None:
    async def look() -> bool:
        rows = await people.fetch(
            "SELECT FROM seals WHERE $1::uuid = ANY (transaction_ids)", transaction_id
        )
        return bool(rows)

    await eventually(look, what="the transaction is sealed", within_s=40)


async def _everything(people: People) -> str:
    """Return every row of every table as text, the audit trail and the wires' traces included."""
    tables = await people.fetch(
        "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'"
    )
    texts = []
    for table in tables:
        rows = await people.fetch(f"SELECT row_to_json(t)::text AS one FROM {table['name']} AS t")
        texts += [row["one"] for row in rows]
    return "\n".join(texts)


async def test_an_erased_person_is_named_nowhere_and_the_books_verify(
    people: People, tmp_path: Path
) -> None:
    unique = uuid4().hex
    person = await _person(people, name=f"Ada {unique}")
    user_id, wallet_id = await person.id(), await _wallet(people, person)
    await people.post("login", email=person.email, password="not the password")
    transaction_id = await _spend(people, person, wallet_id, "12.00", text=f"rent {unique}")
    await _sealed(people, transaction_id)
    assert unique in await _everything(people)

    called = await _command(people, tmp_path, "users", "erase", person.email, "--yes", "--json")
    again = await _command(people, tmp_path, "users", "erase", str(user_id), "--yes", "--json")
    verified = await _command(people, tmp_path, "verify", "--json")
    left = await _everything(people)
    read = (await people.doors.api.get(f"/v1/transactions/{transaction_id}")).json

    assert called.code == 0, called.err
    assert called.json["id"] == str(user_id)
    assert called.json["transactions"] == 1
    assert {name: count for name, count in again.json.items() if name != "id"} == dict.fromkeys(
        ("sessions", "logins", "notifications", "mails", "wallets", "transactions"), 0
    )
    assert (verified.code, verified.json["findings"]) == (0, [])
    assert unique not in left
    assert person.email not in left
    assert (read["status"], read["amount"]) == ("COMPLETED", "12.00")
    assert (read["description"], read["metadata"]) == (None, {})
    assert (await person.call("GET", "/v1/users/me")).status in {401, 404}
    assert (await people.post("login", email=person.email, password=PASSWORD)).status == 401


async def test_an_address_that_was_erased_is_free_again(people: People, tmp_path: Path) -> None:
    person = await _person(people)
    await _command(people, tmp_path, "users", "erase", person.email, "--yes")
    email = await people.register(person.email)

    assert (await people.log_in(email)).email == person.email


async def test_an_erasure_tells_who_ordered_it_and_no_name(people: People, tmp_path: Path) -> None:
    person = await _person(people)
    user_id = await person.id()
    await _command(people, tmp_path, "users", "erase", str(user_id), "--yes")
    [deed] = await people.fetch(
        "SELECT actor, detail FROM audit_log WHERE subject = $1 AND action = 'user.erased'",
        f"user:{user_id}",
    )

    assert deed["actor"]
    assert orjson.loads(deed["detail"])["sessions"] == 1


async def test_whoever_still_has_money_is_not_erased(people: People, tmp_path: Path) -> None:
    person = await _person(people)
    wallet_id = await _wallet(people, person)
    await people.doors.api.submit(deposit(wallet_id, "1.00", "EUR"))
    called = await _command(people, tmp_path, "users", "erase", person.email, "--yes")

    assert called.code == 1
    assert "bring them to zero" in called.err
    assert (await person.call("GET", "/v1/users/me")).json["name"] == "Ada Lovelace"


@pytest.mark.parametrize(
    ("who", "code"), [("nobody@example.com", 1), ("019aa3b0-3c1e-7d0a-8001-5b0f0a9c7e23", 1)]
)
async def test_nobody_is_erased_or_exported_by_a_name_that_nobody_has(
    people: People, tmp_path: Path, who: str, code: int
) -> None:
    erased = await _command(people, tmp_path, "users", "erase", who, "--yes")
    exported = await _command(people, tmp_path, "users", "export", who)

    assert (erased.code, exported.code, exported.out) == (code, code, "")
    assert "no account has the id or the address" in erased.err


async def test_an_erasure_is_never_begun_by_accident(people: People, tmp_path: Path) -> None:
    person = await _person(people)
    called = await _command(people, tmp_path, "users", "erase", person.email)

    assert (called.code, "--yes" in called.err) == (2, True)


async def test_an_export_holds_what_is_kept_of_the_person_and_of_nobody_else(
    people: People, tmp_path: Path
) -> None:
    person, other = await _person(people), await _person(people, name="Charles")
    wallet_id = await _wallet(people, person)
    await people.post("login", email=person.email, password="not the password")
    transaction_id = await _spend(people, person, wallet_id, "3.50")
    await _spend(people, other, await _wallet(people, other), "9.99")
    file = tmp_path / "person.json"
    called = await _command(
        people, tmp_path, "users", "export", person.email, "--output", str(file)
    )
    document: dict[str, Any] = orjson.loads(file.read_bytes())

    assert called.code == 0, called.err
    assert document["account"]["name"] == "Ada Lovelace"
    assert [one["outcome"] for one in document["logins"]] == ["succeeded", "wrong_password"]
    assert [one["kind"] for one in document["notifications"]] == ["new_login"]
    assert [one["subject"] for one in document["mails"]] == ["Confirm your address"]
    assert [one["id"] for one in document["wallets"]] == [wallet_id]
    assert [one["amount"] for one in document["entries"]] == ["3.50", "-3.50"]
    [transaction] = document["transactions"]
    assert (transaction["id"], transaction["description"]) == (transaction_id, SECRET)
    assert len(document["sessions"]) == 1
    assert document["audit"][0]["action"] == "user.confirmed"
    text = file.read_text(encoding="utf-8")
    assert "argon2" not in text
    assert "ack_" not in text
    assert other.email not in text
    assert file.stat().st_mode & 0o077 == 0


async def test_more_rows_than_a_page_are_all_written_and_all_erased(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personal, "PAGE", 2)
    monkeypatch.setattr(personal, "STEP", 2)
    person = await _person(people)
    wallet_id = await _wallet(people, person)
    for number in range(1, 4):
        await _spend(people, person, wallet_id, f"{number}.00")
        await people.post("login", email=person.email, password="not the password")
    settings = load_settings(DatabaseSettings, {"DATABASE_URL": people.doors.database_url})
    pieces: list[str] = []
    async with database_connection(settings, name="test") as connection:
        counts = await personal.export_person(connection, person.email, pieces.append)
        erased = await personal.erase_person(connection, person.email, actor="test")
    document = orjson.loads("".join(pieces))

    assert counts == {name: len(items) for name, items in document.items() if name != "account"}
    assert (counts["entries"], counts["transactions"], counts["logins"]) == (6, 3, 4)
    assert (erased["transactions"], erased["logins"]) == (3, 4)
