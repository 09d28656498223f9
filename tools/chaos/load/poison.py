"""Poison that can be told apart: every message carries a mark, by which its dead letter is found.

The mark stands near the beginning of the body, whatever the body is: a dead letter keeps nothing
else that a client chose.
"""

from dataclasses import replace
from functools import cache
from typing import Final

from ackledger.client.publishing import UpstreamMessage
from contracts.messages import DeadLetterReason
from tools.scenario.poison import PoisonMessage, poison_messages

_PLACEHOLDER: Final = b"never-recorded"
_BULKY_BYTES: Final = 64 * 1024
_BULKY_EACH: Final = 50
"""One poison in so many is a bulky one: what is oversized must not be most of what is sent."""


def poison(number: int, mark: str) -> PoisonMessage:
    """Return the poison of a number, marked."""
    bulky, small = _kinds()
    kinds = bulky if number % _BULKY_EACH == 0 else small
    kind = kinds[number % len(kinds)]
    body = kind.message.body.replace(_PLACEHOLDER, mark.encode())
    return PoisonMessage(kind.reason, replace(kind.message, body=body))


@cache
def _kinds() -> tuple[list[PoisonMessage], list[PoisonMessage]]:
    """The bulky ones and the small ones, all of them with room for a mark."""
    own = [
        _shapeless(DeadLetterReason.NOT_JSON, b'{"never-recorded": not json'),
        _shapeless(DeadLetterReason.INVALID_MESSAGE, b'["never-recorded", 2, 3]'),
    ]
    kinds = [one for one in poison_messages() if _PLACEHOLDER in one.message.body] + own
    bulky = [one for one in kinds if len(one.message.body) > _BULKY_BYTES]
    return bulky, [one for one in kinds if one not in bulky]


def _shapeless(reason: DeadLetterReason, body: bytes) -> PoisonMessage:
    return PoisonMessage(reason, UpstreamMessage(routing_key=_PLACEHOLDER.decode(), body=body))
