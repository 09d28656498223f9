"""Operators look at dead letters: bounded, filtered, and no byte of a body is lost."""

from uuid import uuid4

import orjson
import pytest

from contracts.dead_letters import BODY_SHOWN_BYTES_MAX, DeadLetterFate, DeadLetterState
from contracts.representations.pages import DeadLetter as DeadLetterModel
from dead_letters.model import DeadLetterFilter, DeadLetterNotFoundError
from dead_letters.operations import COUNTED_MAX, DeadLetters
from runtime.postgres.pool import Connection
from tests.integration.dead_letters.letters import store


async def test_pages_are_newest_first_and_end(
    database: Connection, dead_letters: DeadLetters
) -> None:
    ids = [await store(database, str(number).encode()) for number in range(5)]

    first = await dead_letters.page(DeadLetterFilter(), limit=3)
    second = await dead_letters.page(DeadLetterFilter(), cursor=first.next_cursor, limit=3)

    assert [one.id for one in first.items + second.items] == ids[::-1]
    assert first.next_cursor == ids[2]
    assert second.next_cursor is None


async def test_filters_narrow_together(database: Connection, dead_letters: DeadLetters) -> None:
    wanted = await store(database, b"", reason="not_json", submitter="shop")
    await store(database, b"", reason="not_json", submitter="till")
    await store(database, b"", reason="unknown_version", submitter="shop")
    gone = await store(database, b"", reason="not_json", submitter="shop")
    await dead_letters.discard(gone, actor="test")
    both = DeadLetterFilter(reason="not_json", submitter="shop")
    every_state = DeadLetterFilter(reason="not_json", submitter="shop", state=None)
    discarded = DeadLetterFilter(state=DeadLetterState.DISCARDED)

    assert [one.id for one in (await dead_letters.page(both)).items] == [wanted]
    assert [one.id for one in (await dead_letters.page(every_state)).items] == [gone, wanted]
    assert [one.id for one in (await dead_letters.page(discarded)).items] == [gone]
    assert (await dead_letters.count_by_reason(DeadLetterFilter())).by_reason == {
        "not_json": 2,
        "unknown_version": 1,
    }


async def test_a_list_shows_the_beginning_of_a_body_and_show_the_whole(
    database: Connection, dead_letters: DeadLetters
) -> None:
    body = b"x" * 100_000
    dead_letter_id = await store(database, body)

    [listed] = (await dead_letters.page(DeadLetterFilter())).items
    shown = await dead_letters.show(dead_letter_id)

    assert (len(listed.body), listed.body_bytes) == (4096, 100_000)
    assert shown.body == body


async def test_what_is_shown_fits_the_contract(
    database: Connection, dead_letters: DeadLetters
) -> None:
    dead_letter_id = await store(database, b"\xff{", reason="not_json")

    shown = (await dead_letters.show(dead_letter_id)).to_json()

    model = DeadLetterModel.model_validate_json(orjson.dumps(shown))
    assert model.state is DeadLetterState.OPEN
    assert set(shown) == set(DeadLetterModel.model_fields)


@pytest.mark.parametrize(
    ("body", "shown", "encoding"),
    [
        (b"text", "text", "text"),
        ("schön\x00".encode(), "schön\x00", "text"),
        (b"\xff{", "/3s=", "base64"),
        ("ö".encode()[:1], "ww==", "base64"),
    ],
)
async def test_no_byte_of_a_body_is_lost_in_showing_it(
    database: Connection, dead_letters: DeadLetters, body: bytes, shown: str, encoding: str
) -> None:
    letter = (await dead_letters.show(await store(database, body))).to_json()

    assert (letter["body"], letter["body_encoding"]) == (shown, encoding)
    assert (letter["body_bytes"], letter["is_body_whole"]) == (len(body), True)


async def test_the_beginning_of_a_text_ends_before_a_character_that_is_cut(
    database: Connection, dead_letters: DeadLetters
) -> None:
    await store(database, b"x" + "ö".encode() * 5000)

    [listed] = (await dead_letters.page(DeadLetterFilter())).items
    letter = listed.to_json()

    assert (letter["body"], letter["body_encoding"]) == ("x" + "ö" * 2047, "text")
    assert letter["is_body_whole"] is False


async def test_of_a_huge_body_a_bounded_part_is_shown_and_the_whole_can_be_had(
    database: Connection, dead_letters: DeadLetters
) -> None:
    body = bytes(range(256)) * 45_000
    dead_letter_id = await store(database, body)

    shown = await dead_letters.show(dead_letter_id)
    outcome = await dead_letters.replay(dead_letter_id, actor="test")

    assert shown.body == body[:BODY_SHOWN_BYTES_MAX]
    assert await dead_letters.body(dead_letter_id) == body
    assert outcome.fate is DeadLetterFate.REFUSED
    assert outcome.detail.startswith(f"message_too_large: {len(body)} bytes")


async def test_a_filter_that_few_pass_examines_a_bounded_number_of_rows_at_once(
    database: Connection, dead_letters: DeadLetters
) -> None:
    wanted = await store(database, b"", submitter="rare")
    await database.execute(
        "INSERT INTO dead_letters (id, message_id, queue, reason, detail, body, headers, submitter)"
        " SELECT uuid_v7(clock_us()), n, '', 'not_json', '', '', '{}', 'shop'"
        " FROM generate_series(1, $1) AS n",
        COUNTED_MAX,
    )
    rare = DeadLetterFilter(submitter="rare")

    first = await dead_letters.page(rare)
    counts = await dead_letters.count_by_reason(DeadLetterFilter())
    found, cursor = first.items, first.next_cursor
    while cursor is not None:
        page = await dead_letters.page(rare, cursor=cursor)
        found, cursor = found + page.items, page.next_cursor

    assert (first.items, first.next_cursor is None) == ([], False)
    assert [one.id for one in found] == [wanted]
    assert [one async for one in dead_letters.select(rare)] == [wanted]
    assert counts.by_reason == {"not_json": COUNTED_MAX}
    assert not counts.is_complete


async def test_an_unknown_id_is_named(dead_letters: DeadLetters) -> None:
    unknown = uuid4()

    for act in (
        dead_letters.show(unknown),
        dead_letters.replay(unknown, actor="test"),
        dead_letters.discard(unknown, actor="test"),
    ):
        with pytest.raises(DeadLetterNotFoundError, match=str(unknown)):
            await act


async def test_headers_as_deep_as_they_can_be_stored_fail_no_list(
    database: Connection, dead_letters: DeadLetters
) -> None:
    """A page wraps them in two more objects than orjson writes."""
    deep = "{" + '"a":{' * 252 + "}" * 253
    ids = [await store(database, b"{}") for _ in range(3)]
    await database.execute(
        "UPDATE dead_letters SET headers = $2::text::json WHERE id = $1", ids[1], deep
    )

    page = await dead_letters.page(DeadLetterFilter())
    body = orjson.dumps({"items": [one.to_json() for one in page.items]})
    outcome = await dead_letters.replay(ids[1], actor="test")

    assert deep.encode() in body
    assert outcome.fate == "refused"
