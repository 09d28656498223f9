"""What a round sends of its events: what is heard, in order, and one of each key that is not."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from processor.events.audience import QUESTIONS_MAX, Audience
from processor.events.messages import Stretch
from processor.events.owed import Owed

_KEYS = [None, *(f"transaction.completed.transfer.{one}" for one in ("EUR", "USD", "JPY", "KWD"))]


def _stretch(number: int, keys: Sequence[str | None]) -> Stretch:
    ids = [UUID(int=1000 * number + one) for one in range(len(keys))]
    return Stretch(Owed(UUID(int=number), "completed", "now", ids, range(len(ids))), {}, keys)


def _ids(stretches: Sequence[Stretch]) -> list[UUID]:
    return [one for stretch in stretches for one in stretch.owed.transaction_ids]


@given(
    st.lists(st.lists(st.sampled_from(_KEYS), min_size=1, max_size=12), max_size=5),
    st.sets(st.sampled_from(_KEYS[1:])),
)
def test_a_round_sends_what_is_heard_in_its_order_and_asks_once_for_the_rest(
    rows: list[list[str | None]], bound: set[str]
) -> None:
    audience = Audience()
    sent: list[UUID] = []
    unheard: list[UUID] = []
    asked: list[str] = []
    for number, keys in enumerate(rows):
        left: Sequence[Stretch] = [_stretch(number, keys)]
        while left:
            step = audience.step(left)
            left = step.rest
            sent += _ids(step.heard)
            unheard += [one for part in step.unheard for one in part.transaction_ids]
            if step.asks is not None:
                assert step.heard[-1].keys[-1] == step.asks
                asked.append(step.asks)
                audience.note(step.asks, is_heard=step.asks in bound)

    events = [
        (one, key)
        for number, keys in enumerate(rows)
        for one, key in zip(_stretch(number, keys).owed.transaction_ids, keys, strict=True)
    ]
    questions = {key: one for one, key in reversed(events) if key is not None}
    assert sent == [
        one for one, key in events if key is None or key in bound or questions[key] == one
    ]
    assert sorted([*sent, *unheard]) == [one for one, _ in events]
    assert sorted(asked) == sorted(questions)


def test_a_round_asks_about_a_bounded_number_of_keys() -> None:
    keys = [f"transaction.completed.transfer.C{one}" for one in range(QUESTIONS_MAX + 5)]
    audience = Audience()
    left: Sequence[Stretch] = [_stretch(0, keys)]
    asked = 0
    while left:
        step = audience.step(left)
        left = step.rest
        if step.asks is not None:
            asked += 1
            audience.note(step.asks, is_heard=False)

    again = audience.step([_stretch(1, keys)])

    assert asked == QUESTIONS_MAX
    assert _ids(again.heard) == [UUID(int=1000 + one) for one in range(QUESTIONS_MAX, len(keys))]


def test_a_part_of_a_row_keeps_the_places_of_its_events() -> None:
    heard, unheard = "transaction.completed.transfer.EUR", "transaction.completed.transfer.USD"
    audience = Audience()
    audience.note(heard, is_heard=True)
    audience.note(unheard, is_heard=False)

    step = audience.step([_stretch(0, [heard, unheard, unheard, heard])])

    assert [list(one.owed.positions) for one in step.heard] == [[0, 3]]
    assert [list(one.positions) for one in step.unheard] == [[1, 2]]
