"""When a consumer is taken for lost."""

from dataclasses import replace
from typing import cast

import pytest

from runtime.amqp.connection import Channel
from runtime.amqp.topology import QueueState
from runtime.amqp.watchdog import Consuming, Loss, judge

_IDLE = Consuming(cast(Channel, object()), "tag", arrived=7, in_hand=0)
_REBUILT = replace(_IDLE, channel=cast(Channel, object()))


def _judge(
    now: Consuming, seen: QueueState, *, is_suspicion_due: bool = True, is_quiet: bool = False
) -> Loss | None:
    return judge(
        before=_IDLE, now=now, seen=seen, is_suspicion_due=is_suspicion_due, is_quiet=is_quiet
    )


@pytest.mark.parametrize(
    ("now", "seen", "loss"),
    [
        (_IDLE, QueueState(waiting=0, consumers=1), None),
        (_IDLE, QueueState(waiting=5, consumers=1), Loss.FORGOTTEN),
        (_IDLE, QueueState(waiting=0, consumers=0), Loss.UNKNOWN_TO_BROKER),
        (_IDLE, QueueState(waiting=5, consumers=0), Loss.UNKNOWN_TO_BROKER),
        (replace(_IDLE, arrived=8), QueueState(waiting=5, consumers=1), None),
        (replace(_IDLE, in_hand=3), QueueState(waiting=5, consumers=1), None),
        (_REBUILT, QueueState(waiting=5, consumers=0), None),
    ],
)
def test_a_consumer_is_lost_only_where_the_broker_and_it_disagree(
    now: Consuming, seen: QueueState, loss: Loss | None
) -> None:
    assert _judge(now, seen) is loss


def test_a_standby_that_was_suspected_lately_is_let_be() -> None:
    assert _judge(_IDLE, QueueState(waiting=5, consumers=1), is_suspicion_due=False) is None


def test_a_consumer_that_is_quiet_for_too_long_begins_anew_unless_it_works() -> None:
    seen = QueueState(waiting=0, consumers=1)

    assert _judge(_IDLE, seen, is_quiet=True) is Loss.QUIET
    assert _judge(replace(_IDLE, in_hand=1), seen, is_quiet=True) is None
