"""What a channel delivered and nobody acked yet: which acks may be sent is decided here; pure."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple


class Ack(NamedTuple):
    """An ack to send: of one delivery, or of all up to it."""

    tag: int
    is_multiple: bool


class UnknownTagError(Exception):
    """A delivery that this channel did not make, or that was settled before."""


class Unsettled:
    """The deliveries of one channel that are not settled, in the order in which they came.

    An ack of many names no delivery that is not settled: that holds by the way acks are made, and
    whoever posts need not know in which order it settles. One channel, one of these.
    """

    def __init__(self) -> None:
        self._octets: OrderedDict[int, int] = OrderedDict()
        self.octets = 0
        """Of all of them together."""

    def __len__(self) -> int:
        return len(self._octets)

    def add(self, tag: int, octets: int) -> None:
        """Note a delivery; tags only grow."""
        self._octets[tag] = octets
        self.octets += octets

    def settle(self, tags: Sequence[int]) -> list[Ack]:
        """Settle deliveries, given in their order, and return the acks that tell the broker.

        Raises UnknownTagError, and settles nothing, if one of them is not unsettled.
        """
        if not all(tag in self._octets for tag in tags) or len(set(tags)) < len(tags):
            raise UnknownTagError(f"not all of {len(tags)} deliveries are unsettled")
        for tag in tags:
            self.octets -= self._octets.pop(tag)
        first_open = next(iter(self._octets), None)
        if first_open is None or (tags and first_open > tags[-1]):
            return [Ack(tags[-1], is_multiple=True)] if tags else []
        before = [tag for tag in tags if tag < first_open]
        whole = [Ack(before[-1], is_multiple=True)] if before else []
        return whole + [Ack(tag, is_multiple=False) for tag in tags if tag > first_open]
