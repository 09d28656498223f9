"""What was sent over AMQP, kept in a temporary file: the broker does not answer row by row."""

import tempfile
from collections.abc import Container, Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import orjson

from cli.failures import RefusedError
from cli.replay.ordering import Item


@dataclass(frozen=True, slots=True)
class SentRow:
    """A row as it was sent: its line, the wallet that it is counted with, its key and its body."""

    line: int
    wallet: str
    key: str
    body: bytes

    def is_content_of(self, transaction: dict[str, Any]) -> bool:
        """Whether a transaction, as clients read it, has the content that was sent."""
        return _content(orjson.loads(self.body)) == _content(transaction)


class SentRows:
    """Rows in the order in which they were sent: as many as the file has, none in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="ackledger-replay-")  # noqa: SIM115  # closed below

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, item: Item) -> None:
        """Remember a row; raises RefusedError when the disk is full."""
        try:
            # Neither a wallet's id nor a key has a blank, and no body has a line break.
            start = f"{item.line} {item.wallet} {item.key} ".encode()
            self._file.write(start + item.body + b"\n")
        except OSError as error:
            raise RefusedError(f"no room for what is sent: {error.strerror}") from error

    def of(self, wallets: Container[str]) -> Iterator[SentRow]:
        """Yield the rows that are counted with these wallets."""
        self._file.seek(0)
        for record in self._file:
            line, wallet, key, body = record.split(b" ", 3)
            if wallet.decode() in wallets:
                yield SentRow(int(line), wallet.decode(), key.decode(), body)


def _content(of: dict[str, Any]) -> tuple[object, ...]:
    """What may not differ under one key, from a request or from what clients read of it."""
    names = ("type", "source_wallet_id", "destination_wallet_id", "currency", "description")
    amount = of.get("amount")
    return (
        *map(of.get, names),
        None if amount is None else Decimal(amount),
        [_leg(leg) for leg in of.get("legs") or ()],
        of.get("metadata") or {},
    )


def _leg(leg: dict[str, Any]) -> tuple[object, ...]:
    return leg.get("wallet_id"), Decimal(leg["amount"]), leg["currency"]
