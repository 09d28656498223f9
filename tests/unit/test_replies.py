"""Where a result may go, to queues that its sender may read; and letters that fail together."""

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import escaped, reply_queue, unescaped
from processor.replies import _first_of
from runtime.resilience.error_classification import GivenBackError


@pytest.mark.parametrize(
    ("reply_to", "submitter"),
    [
        (b"billing.results", "billing"),
        (b"billing.", "billing"),
        ("größe.results".encode(), "größe"),
        (b"amq.rabbitmq.reply-to.g1h2AA5yZXBseUA", "billing"),
    ],
)
def test_a_result_goes_to_its_sender_s_queues_and_to_direct_reply_to(
    reply_to: bytes, submitter: str
) -> None:
    assert reply_queue(reply_to, submitter=submitter) == reply_to.decode()


@pytest.mark.parametrize(
    ("reply_to", "submitter"),
    [
        (b"billing", "billing"),
        (b"billing-2.results", "billing"),
        (b"other.results", "billing"),
        (b"amq.gen-Odv4RGW6j1EJVQ53eqcpZQ", "billing"),
        (b"ackledger.transactions.0", "billing"),
        (b"ackledger.transactions.0", "ackledger"),
        (b"ackledger.dead-letters", "ackledger"),
        (b"billing.\xff", "billing"),
        (b".results", "billing"),
    ],
)
def test_a_result_goes_nowhere_else(reply_to: bytes, submitter: str) -> None:
    assert reply_queue(reply_to, submitter=submitter) is None


@given(st.binary(max_size=255))
def test_any_octets_come_back_from_visible_ascii(octets: bytes) -> None:
    text = escaped(octets)

    assert unescaped(text) == octets
    assert not text or (text.isascii() and text.isprintable() and " " not in text)


async def test_burials_that_fail_at_one_time_leave_no_error_that_nobody_looked_at() -> None:
    """The first is raised; the others say the same, and asyncio would log each of them."""
    unseen: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(str(context["message"])))

    async def fail() -> None:
        raise GivenBackError("the channel that delivered is gone")

    try:
        with pytest.raises(GivenBackError):
            await _first_of({asyncio.create_task(fail()): 0 for _ in range(3)})
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)

    assert unseen == []
