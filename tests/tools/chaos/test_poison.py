"""Poison is what it says, and every piece of it can be told from every other."""

import pytest

from contracts.messages import PoisonMessageError, decode_message
from tools.chaos.load.poison import poison

NUMBERS = range(120)
MARK = "chaos-1-poison-2-33"


@pytest.mark.parametrize("number", NUMBERS)
def test_poison_is_refused_for_its_reason_and_carries_its_mark(number: int) -> None:
    one = poison(number, MARK)
    message = one.message

    with pytest.raises(PoisonMessageError) as refused:
        decode_message(
            message.body,
            message_type=message.type,
            content_type=message.content_type,
            user_id="demo" if message.sets_user else None,
        )

    assert refused.value.reason is one.reason
    assert f'{MARK}"'.encode() in message.body[:600]


def test_there_are_many_kinds_of_poison_and_few_are_bulky() -> None:
    made = [poison(number, MARK) for number in NUMBERS]

    assert len({one.reason for one in made}) >= 6
    bulky = [one for one in made if len(one.message.body) > 64 * 1024]
    assert 0 < len(bulky) <= len(made) / 20
