"""Results of messages: what is in one, and where it may be sent; pure."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

import orjson

from contracts.views import Json

DIRECT_REPLY_PREFIX: Final = "amq.rabbitmq.reply-to."
"""The broker's direct reply-to: it writes the rest itself, and only the asking channel gets it."""
OWN_PREFIX: Final = "ackledger."
"""Of the product's own queues and exchanges: never a reply queue, whatever a user is called."""

_PLAIN: Final = "".join(chr(one) for one in range(0x21, 0x7F) if chr(one) != "%")
_VERSION: Final = 1


def reply_queue(reply_to: bytes, *, submitter: str) -> str | None:
    """Return the queue that a result goes to; None where its sender has no right to it.

    A result is published with the processor's rights, so `reply_to` must not name just any queue.
    `submitter` is the user that the broker validated: the queues that begin with its name and a
    point are its own.
    """
    try:
        queue = reply_to.decode()
    except UnicodeDecodeError:
        return None
    if queue.startswith(DIRECT_REPLY_PREFIX):
        return queue
    if queue.startswith(OWN_PREFIX) or not queue.startswith(f"{submitter}."):
        return None
    return queue


def result_body(transactions: Iterable[Json]) -> bytes:
    """Return the body of a result: the transactions of one message, in its order."""
    return orjson.dumps({"version": _VERSION, "transactions": list(transactions)})


def escaped(octets: bytes) -> str:
    """Return octets as visible ASCII, %XX for any other: as a header or JSON can hold them."""
    return quote_from_bytes(octets, safe=_PLAIN)


def unescaped(text: str) -> bytes:
    """Return the octets that `escaped` was given."""
    return unquote_to_bytes(text)
