"""`ackledger dead-letters` on the tables alone: no process of ours runs here."""

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from contracts.messages import DeadLetterReason
from processor.events.messages import set_aside
from processor.events.owed import Owed
from runtime.postgres.pool import Connection
from tests.integration.command_line.calling import Called, ackledger, environment_of
from tests.integration.dead_letters.letters import audited, deposit, requested, store

pytestmark = pytest.mark.long

BINARY = bytes(range(256)) * 45_000


class Desk:
    """An operator's terminal, and the books behind it."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        self.directory = directory
        self.variables = variables

    async def call(self, *arguments: str) -> Called:
        """Call `ackledger dead-letters`."""
        return await ackledger(
            "dead-letters", *arguments, directory=self.directory, variables=self.variables
        )


@pytest.fixture
def desk(directory: Path, database_url: str, vhost_url: str) -> Desk:
    """A desk beside a fresh database and a broker."""
    return Desk(directory, {"DATABASE_URL": database_url, "AMQP_URL": vhost_url})


async def _open_ids(database: Connection) -> Sequence[UUID]:
    rows = await database.fetch(
        "SELECT id FROM dead_letters WHERE replayed_at IS NULL AND discarded_at IS NULL ORDER BY id"
    )
    return [row["id"] for row in rows]


async def test_a_list_is_grouped_by_reason_and_goes_on_behind_its_cursor(
    desk: Desk, database: Connection
) -> None:
    reasons = ("not_json", "unknown_type", "not_json")
    ids = [str(await store(database, b"x", reason=reason)) for reason in reasons]

    first = await desk.call("list", "--limit", "2", "--json")
    second = await desk.call("list", "--cursor", first.json["next_cursor"], "--json")
    shown = await desk.call("list", "--reason", "not_json")

    assert [one["id"] for one in first.json["items"] + second.json["items"]] == ids[::-1]
    assert first.json["by_reason"] == {"not_json": 2, "unknown_type": 1}
    assert second.json["next_cursor"] is None
    assert [one in shown.out for one in ids] == [True, False, True]
    assert "in all: 2 not_json" in shown.err


async def test_a_group_is_discarded_with_a_note_and_others_stay_open(
    desk: Desk, database: Connection
) -> None:
    ids = [await store(database, b"x", detail=f"line {number}: no good") for number in range(2)]
    spared = await store(database, b"x", detail="something else")
    shown = await desk.call("show", str(ids[0]), "--json")

    ended = await desk.call(
        "discard", "--fingerprint", shown.json["fingerprint"], "--note", "sent again", "--json"
    )

    notes = await database.fetch("SELECT detail->>'note' AS note FROM audit_log ORDER BY id")
    assert [one["id"] for one in ended.json["items"]] == [str(one) for one in ids]
    assert await _open_ids(database) == [spared]
    assert [row["note"] for row in notes] == ["sent again"] * 2


async def test_a_body_that_is_no_text_is_shown_safely_and_written_whole_on_demand(
    desk: Desk, database: Connection
) -> None:
    dead_letter = str(await store(database, BINARY))

    shown = await desk.call("show", dead_letter, "--json")
    whole = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "dead-letters", "show", dead_letter, "--body"),
        env=environment_of(desk.directory, desk.variables),
        stdout=asyncio.subprocess.PIPE,
    )
    body, _ = await whole.communicate()
    both = await desk.call("show", dead_letter, "--json", "--body")

    assert (shown.json["body_encoding"], shown.json["is_body_whole"]) == ("base64", False)
    assert shown.json["body_bytes"] == len(BINARY)
    assert (whole.returncode, body) == (0, BINARY)
    assert both.code == 2


async def test_a_filter_replays_each_under_its_own_key_once(
    desk: Desk, database: Connection
) -> None:
    letters = [
        await store(database, requested(deposit(f"key-{number}")), submitter="shop")
        for number in range(3)
    ]
    spared = await store(database, requested(deposit("key-0")), submitter="till")

    dry = await desk.call("replay", "--submitter", "shop", "--dry-run", "--json")
    untouched = await _open_ids(database)
    wet = await desk.call("replay", "--submitter", "shop", "--json")
    again = await desk.call("replay", "--submitter", "shop", "--json")

    rows = await database.fetch("SELECT submitter, idempotency_key FROM transactions ORDER BY id")
    assert (dry.code, dry.json["dry_run"], dry.json["counts"]) == (0, True, {"replayed": 3})
    assert untouched == [*letters, spared]
    assert (wet.code, wet.json["counts"]) == (0, {"replayed": 3})
    assert [item["id"] for item in wet.json["items"]] == [str(one) for one in letters]
    assert [tuple(row) for row in rows] == [("shop", f"key-{number}") for number in range(3)]
    assert (again.code, again.json["items"]) == (0, [])
    assert await _open_ids(database) == [spared]
    [(actor, action)] = await audited(database, letters[0])
    assert actor.startswith("cli:")
    assert action == "dead_letter.replayed"


async def test_a_replay_that_changes_nothing_says_so(desk: Desk, database: Connection) -> None:
    first, second = [await store(database, requested(deposit("key-1"))) for _ in range(2)]
    await desk.call("replay", str(first))
    await database.execute(
        "UPDATE transactions SET status = 'COMPLETED', completed_at = clock_timestamp()"
    )

    called = await desk.call("replay", str(second))
    again = await desk.call("replay", str(second))

    assert (called.code, again.code) == (0, 0)
    assert "replayed: 1 ended before: nothing was changed" in called.out
    assert "unchanged: it was replayed before" in again.out


async def test_one_that_is_refused_exits_1_and_stops_no_other(
    desk: Desk, database: Connection
) -> None:
    poison = await store(database, b"not json")
    await store(database, requested(deposit("key-1")))

    called = await desk.call("replay", "--all", "--json")

    assert called.code == 1
    assert called.json["counts"] == {"refused": 1, "replayed": 1}
    assert await _open_ids(database) == [poison]


async def test_an_unknown_id_exits_1_and_names_it(desk: Desk) -> None:
    unknown = str(uuid4())

    called = [await desk.call(act, unknown) for act in ("show", "replay", "discard")]

    assert {one.code for one in called} == {1}
    assert all(unknown in one.err for one in called)


async def test_a_bar_moves_on_the_terminal_and_the_outcomes_go_where_they_are_sent(
    desk: Desk, database: Connection
) -> None:
    ids = [str(await store(database, b"not json")) for _ in range(30)]
    terminal, screen = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "dead-letters", "discard", "--all"),
        env=environment_of(desk.directory, desk.variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=screen,
    )
    os.close(screen)
    (out, _), drawn = await asyncio.gather(
        process.communicate(), asyncio.to_thread(_read_to_the_end, terminal)
    )

    assert process.returncode == 0
    assert [line.split()[0] for line in out.decode().splitlines()] == ids
    assert "discarding" in drawn
    assert "30/30" in drawn
    assert "30 discarded" in drawn


def _read_to_the_end(terminal: int) -> str:
    """Read what is drawn until nobody draws any more, which Linux tells by an error."""
    drawn = b""
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        while True:
            try:
                drawn += reader.read(65536)
            except OSError:
                return drawn.decode()


async def test_an_event_that_was_set_aside_is_found_listed_and_released_without_sql(
    desk: Desk, database: Connection, directory: Path
) -> None:
    transaction, origin = uuid4(), uuid4()
    letters = [await _event_set_aside(database, transaction, origin) for _ in range(2)]
    verify = partial(ackledger, "verify", "--json", directory=directory, variables=desk.variables)
    before = await verify()

    listed = await desk.call("list", "--reason", "event_rejected", "--json")
    shown = await desk.call("show", str(letters[0]))
    replayed = await desk.call("replay", str(letters[0]), "--json")
    discarded = await desk.call("discard", str(letters[1]), "--json")
    after = await verify()

    assert before.code == 1
    assert [(one["check"], one["subject"]) for one in before.json["findings"]] == [
        ("event_set_aside", f"dead letter {one}") for one in letters
    ]
    assert listed.json["by_reason"] == {"event_rejected": 2}
    assert {one["transaction_id"] for one in listed.json["items"]} == {str(transaction)}
    assert str(transaction) in shown.out
    assert (replayed.code, replayed.json["counts"]) == (0, {"replayed": 1})
    assert (discarded.code, discarded.json["counts"]) == (0, {"discarded": 1})
    [owed] = await database.fetch("SELECT * FROM outbox")
    assert (owed["origin_id"], owed["transaction_ids"]) == (origin, [transaction])
    assert (after.code, after.json["findings"]) == (0, [])


async def _event_set_aside(database: Connection, transaction: UUID, origin: UUID) -> UUID:
    """Store the letter of an event as a relay does."""
    owed = Owed(
        uuid4(),
        "completed",
        "2026-11-21T12:00:00.000000Z",
        [transaction],
        range(1),
        origin_id=origin,
    )
    event = set_aside(owed, transaction, DeadLetterReason.EVENT_REJECTED, "refused")
    letter = await store(
        database, event.body, reason=event.reason.value, message_type="transaction.completed.v1"
    )
    await database.execute(
        "UPDATE dead_letters SET queue = 'ackledger.events' WHERE id = $1", letter
    )
    return letter
