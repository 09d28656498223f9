"""Where a result may go: to queues that its sender may read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import escaped, reply_queue, unescaped


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
