"""What is heard over HTTP is held against the books: each gap and each invention is found."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from standardwebhooks import Webhook

from tests.tools.chaos.attacked import Run
from tools.chaos.endpoint import Arrival, Mood, WebhookEndpoint, fault_of, mood_of
from tools.chaos.following import EventFollower, FollowedEvent, blocks_of, untimeliness
from tools.chaos.invariants import Breach
from tools.chaos.listening import ENDINGS_HOOK, WALLETS_HOOK, Listeners

_SECRET = "whsec_" + "A" * 32


async def found(run: Run) -> list[Breach]:
    """Return what a comparison finds."""
    return (await run.verdict()).breaches


def letters(breaches: list[Breach]) -> set[str]:
    """Return the invariants of breaches."""
    return {one.invariant for one in breaches}


def reheard(
    run: Run,
    directory: Path,
    *,
    followed: list[FollowedEvent] | None = None,
    arrivals: list[Arrival] | None = None,
) -> Run:
    """Return the run with other things heard."""
    listeners = listeners_of(run)
    follower = EventFollower(run.doors, directory=directory)
    endpoint = WebhookEndpoint(run.doors, directory=directory, seed=1)
    endpoint.hooks = listeners.endpoint.hooks
    events = list(listeners.follower.read()) if followed is None else followed
    taken = list(listeners.endpoint.read()) if arrivals is None else arrivals
    follower.path.write_bytes(b"".join(one.to_line() for one in events))
    endpoint.path.write_bytes(
        b"".join(one.hook.encode() + b" " + one.event.to_line() for one in taken)
    )
    return replace(run, listeners=Listeners(follower, endpoint))


def listeners_of(run: Run) -> Listeners:
    """Return who listened to a run."""
    assert run.listeners is not None
    return run.listeners


async def test_what_is_told_is_followed_and_delivered_through_failing_receivers(
    finished: Run,
) -> None:
    listeners = listeners_of(finished)

    assert await found(finished) == []
    assert None not in {finished.heard.followed_s, finished.heard.delivered_s}
    assert listeners.follower.lookups > 10
    assert {one.hook for one in listeners.endpoint.read()} == {ENDINGS_HOOK, WALLETS_HOOK}
    assert {"take", "fail", "close"} <= set(listeners.endpoint.moods)


async def test_l_an_event_that_was_not_followed(finished: Run, tmp_path: Path) -> None:
    events = list(listeners_of(finished).follower.read())
    gone = events[len(events) // 2]
    kept = [one for one in events if one.event_id != gone.event_id]

    breaches = await found(reheard(finished, tmp_path, followed=kept))

    assert "L" in letters(breaches)
    assert str(gone.event_id) in str(breaches)


async def test_l_an_event_of_nothing_and_a_duplicate_under_another_id(
    finished: Run, tmp_path: Path
) -> None:
    events = list(listeners_of(finished).follower.read())
    again = reheard(finished, tmp_path, followed=[*events, events[0]])
    assert await found(again) == []

    for invented in (
        replace(events[0], event_id=uuid4(), transaction_id=uuid4()),
        replace(events[0], event_id=uuid4()),
    ):
        run = reheard(finished, tmp_path, followed=[*events, invented])
        assert letters(await found(run)) == {"L"}


async def test_d_an_event_that_never_arrived(finished: Run, tmp_path: Path) -> None:
    arrivals = list(listeners_of(finished).endpoint.read())
    gone = arrivals[len(arrivals) // 2]
    kept = [
        one
        for one in arrivals
        if (one.hook, one.event.event_id) != (gone.hook, gone.event.event_id)
    ]

    breaches = await found(reheard(finished, tmp_path, arrivals=kept))

    assert [one.invariant for one in breaches] == ["D"]
    assert str(gone.event.event_id) in breaches[0].detail


async def test_d_an_event_that_was_not_asked_for(finished: Run, tmp_path: Path) -> None:
    listeners = listeners_of(finished)
    arrivals = list(listeners.endpoint.read())
    completed = next(
        one for one in listeners.follower.read() if one.event_type == "transaction.completed"
    )

    run = reheard(finished, tmp_path, arrivals=[*arrivals, Arrival(ENDINGS_HOOK, completed)])

    assert letters(await found(run)) == {"D"}


async def test_what_listeners_find_themselves_is_a_breach(finished: Run, tmp_path: Path) -> None:
    run = reheard(finished, tmp_path)
    listeners = listeners_of(run)
    event = next(listeners_of(finished).follower.read())
    listeners.follower.untimely.append((event, "it was told before it could be read"))
    listeners.follower.resets = 1
    listeners.endpoint.faults.append(("wallets 1", "its signature is not valid"))

    assert sorted(one.invariant for one in await found(run)) == ["D", "L", "L"]


@pytest.mark.parametrize(
    ("event_type", "status", "answer", "is_timely"),
    [
        ("transaction.completed", 200, {"status": "COMPLETED"}, True),
        ("transaction.completed", 200, {"status": "REVERSED"}, True),
        ("transaction.completed", 200, {"status": "PENDING"}, False),
        ("transaction.failed", 200, {"status": "COMPLETED"}, False),
        ("transaction.hold_expired", 200, {"status": "COMPLETED"}, True),
        ("transaction.completed", 404, {"code": "transaction_not_found"}, False),
    ],
)
def test_an_event_comes_once_its_transaction_can_be_read_as_it_says(
    event_type: str, status: int, answer: dict[str, Any], *, is_timely: bool
) -> None:
    assert (untimeliness(event_type, status, answer) is None) is is_timely


def test_a_request_is_signed_by_the_secret_and_named_after_its_event() -> None:
    event_id, now = str(uuid4()), datetime.now(tz=UTC)
    body = orjson.dumps({"event_id": event_id})

    def headers(webhook_id: str) -> dict[str, str]:
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(_SECRET).sign(webhook_id, now, body.decode()),
        }

    assert fault_of(_SECRET, body, headers(event_id)) is None
    assert fault_of(_SECRET, body + b" ", headers(event_id)) is not None
    assert fault_of("whsec_" + "B" * 32, body, headers(event_id)) is not None
    assert fault_of(_SECRET, body, headers(str(uuid4()))) is not None


def test_a_seed_has_the_same_moods_and_takes_most() -> None:
    ids = [uuid4() for _ in range(2000)]
    moods = [mood_of(1, "hook", one) for one in ids]

    assert moods == [mood_of(1, "hook", one) for one in ids]
    assert set(moods) >= {Mood.TAKE, Mood.FAIL, Mood.CLOSE}
    assert moods.count(Mood.TAKE) > 1600


async def test_a_block_that_is_cut_off_is_no_event() -> None:
    async def lines() -> Any:
        for line in (b"retry: 1000\n", b"\n", b"id: 1-0\n", b"data: {}\n", b"\n", b"id: 2-0\n"):
            yield line

    assert [one async for one in blocks_of(lines())] == [
        {"retry": "1000"},
        {"id": "1-0", "data": "{}"},
    ]
