"""A move that is recorded alone becomes the row that it becomes in a group."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from contracts.record import Submission, recording_arguments
from runtime.postgres.queries import load_queries
from tests.conftest import Connection
from tests.integration.processor.books import add_wallets, transfer_command

_OWN = {"id", "idempotency_key", "fingerprint", "created_at"}
_TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
_MORE: dict[str, tuple[object, ...]] = {"ingress": (), "processor": (0,)}
"""What the queries of a package take behind the columns."""


async def _recorded(
    database: Connection, package: str, name: str, submission: Submission
) -> dict[str, object] | None:
    arguments: list[object] = list(recording_arguments([submission]))
    if name == "record_transaction":
        arguments = [value for [value] in recording_arguments([submission])]
    sql = load_queries(package)[name]
    found = await database.fetchrow(sql, *arguments, *_MORE[package])
    return None if found is None else dict(found)


@pytest.mark.parametrize("package", _MORE)
async def test_a_move_alone_is_the_row_of_a_group(package: str, database: Connection) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    rows = []
    for name in ("record_transaction", "record_transactions"):
        command = transfer_command(uuid4().hex, alice, bob, 7)._replace(
            description='Miete "März"', metadata=b'{"a":[1.10,"\\u00e4"]}'
        )
        submission = Submission(
            "shop", command, "request", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
        )
        told = await _recorded(database, package, name, submission)
        assert told is not None
        row = await database.fetchrow("SELECT * FROM transactions WHERE id = $1", told["id"])
        assert row is not None
        rows.append({key: value for key, value in row.items() if key not in _OWN})
        assert {told[one] for one in ("is_new", "is_same", "is_pending")} == {True}
        assert (told["request"], told["created_at"]) == (0, row["created_at"])
        # An id's first 48 bits are the milliseconds of its row's moment.
        ms = UUID(str(row["id"])).int >> 80
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
        assert timedelta(0) <= row["created_at"] - at < timedelta(milliseconds=1)

    assert rows[0] == rows[1]


@pytest.mark.parametrize("package", _MORE)
async def test_of_a_key_that_was_used_the_statement_tells_nothing_and_changes_nothing(
    package: str, database: Connection
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    first = Submission("shop", transfer_command("key", alice, bob, 7))
    other = Submission("shop", transfer_command("key", alice, bob, 8))
    assert await _recorded(database, package, "record_transaction", first) is not None

    assert await _recorded(database, package, "record_transaction", other) is None
    assert await database.fetchval("SELECT amount FROM transactions") == 7
