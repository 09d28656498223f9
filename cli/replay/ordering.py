"""Which rows of a file may be sent now: every wallet sees them in the file's order. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A transaction to send: the wallet that it is counted with, and the encoded request.

    `names` are the wallets that it debits and credits, and its key: rows that share one of them
    keep their order.
    """

    line: int
    wallet: str
    key: str
    body: bytes
    names: tuple[str, ...]


class FileOrder:
    """Rows that wait to be sent, and the names of those that are on their way.

    A row may be sent when no earlier row that shares a name with it waits or is on its way. Rows of
    one request may share names: a request's rows are accepted in their order.
    """

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._under_way: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item) -> None:
        """Let the file's next row wait."""
        self._waiting.append(item)

    def take(self, count: int, *, size: int) -> list[Item]:
        """Return the rows of the next request, in the file's order; none if all have to wait.

        There are at most `count`; none is added once their bodies have reached `size` bytes.
        """
        taken: list[Item] = []
        left: list[Item] = []
        passed_over: set[str] = set()
        waiting, under_way = self._waiting, self._under_way
        while waiting and len(taken) < count and size > 0:
            item = waiting.popleft()
            if under_way.isdisjoint(item.names) and passed_over.isdisjoint(item.names):
                taken.append(item)
                size -= len(item.body)
            else:
                passed_over.update(item.names)
                left.append(item)
        waiting.extendleft(reversed(left))
        for item in taken:
            under_way.update(item.names)
        return taken

    def release(self, items: Iterable[Item]) -> None:
        """Say that a request's rows have been accepted, or refused for good."""
        for item in items:
            self._under_way.difference_update(item.names)
