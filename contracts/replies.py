"""Where a result may be sent: only to queues that its sender may read; pure."""

from typing import Final

DIRECT_REPLY_PREFIX: Final = "amq.rabbitmq.reply-to."
"""The broker's direct reply-to: it writes the rest itself, and only the asking channel gets it."""
OWN_PREFIX: Final = "ackledger."
"""Of the product's own queues and exchanges: never a reply queue, whatever a user is called."""


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
