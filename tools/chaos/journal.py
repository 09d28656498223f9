"""The journal: what every client was promised, attempt by attempt, on disk as it happens.

Memory holds one line of the file and the keys whose outcome is open, never the run.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, Self
from uuid import UUID

import orjson

from tools.chaos.command import Command, as_uuid

OPEN_MAX: Final = 50_000
"""Keys with an open outcome that are remembered; at this many, clients send nothing new."""


class Door(StrEnum):
    """The door that an attempt went through."""

    HTTP = "http"
    AMQP = "amqp"


class Act(StrEnum):
    """What a client was up to."""

    OPENING = "opening"
    """A deposit before the load begins."""
    PROBE = "probe"
    """A transfer that measures how long the system takes to complete something new."""
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    UNKNOWN_WALLET = "unknown_wallet"
    FROZEN_WALLET = "frozen_wallet"
    CURRENCY_MISMATCH = "currency_mismatch"
    HOLD = "hold"
    SHORT_HOLD = "short_hold"
    """A hold that expires within the run."""
    CAPTURE = "capture"
    RELEASE = "release"
    REVERSAL = "reversal"
    FORCED_REVERSAL = "forced_reversal"
    """A deposit is taken back, whether or not it was spent: over HTTP alone."""
    JOURNAL = "journal"
    EXCHANGE = "exchange"
    """A journal with legs in two currencies."""
    ATOMIC = "atomic"
    """A member of an atomic batch that can be posted."""
    DOOMED_ATOMIC = "doomed_atomic"
    """A member of an atomic batch that must fail as a whole."""
    CONDITION = "condition"
    VALID_UNTIL = "valid_until"
    SCHEDULED = "scheduled"
    CANCEL = "cancel"
    """A SCHEDULED transaction is cancelled, perhaps too late."""
    DUPLICATE = "duplicate"
    """The same key and content again, through either door."""
    CONCURRENT_DUPLICATE = "concurrent_duplicate"
    """The same key and content through both doors at the same moment."""
    OTHER_CONTENT = "other_content"
    """A key that was accepted over HTTP, with another amount: it must be refused."""
    POISON = "poison"
    """A message that nobody can process: it must become a dead letter."""


NOT_PROMISED: Final = frozenset({Act.OTHER_CONTENT, Act.POISON, Act.CANCEL})
"""Acts that never become a transaction; an open outcome of theirs owes nobody anything."""


class Outcome(StrEnum):
    """What an attempt was answered."""

    ACCEPTED = "accepted"
    """200 or 202 with a transaction."""
    CONFIRMED = "confirmed"
    """The broker has the message."""
    REFUSED = "refused"
    """A problem that trying again does not change."""
    UNKNOWN = "unknown"
    """No answer, a server's error, or no confirm: it may have happened or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One attempt and its answer. Moments: `_s` are this process's monotonic clock.

    `sequence` is the number of the client's act, `attempt` that of the try. `command` is None for
    poison, whose `idempotency_key` is the mark that its body carries. That of a cancellation names,
    by its terms, what is cancelled. `is_after_loss`: sent again because the broker had lost what it
    confirmed.
    """

    client: int
    sequence: int
    attempt: int
    door: Door
    act: Act
    idempotency_key: str
    command: Command | None
    is_batch: bool
    sent_s: float
    answered_s: float
    sent_at: datetime
    outcome: Outcome
    transaction_id: UUID | None = None
    code: str | None = None
    is_after_loss: bool = False

    def to_line(self) -> bytes:
        """Return the attempt as a line of the journal's file; `of_line` reads it back."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def of_line(cls, line: bytes) -> Self:
        """Return the attempt that a line tells of."""
        fields = orjson.loads(line)
        command = fields["command"]
        fields.update(
            door=Door(fields["door"]),
            act=Act(fields["act"]),
            outcome=Outcome(fields["outcome"]),
            command=None if command is None else Command.of_fields(command),
            sent_at=datetime.fromisoformat(fields["sent_at"]),
            transaction_id=as_uuid(fields["transaction_id"]),
        )
        return cls(**fields)


class Journal:
    """Every attempt in the file `journal.jsonl`, and in memory what is still open."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal.jsonl"
        self.counts: Counter[tuple[Act, Outcome]] = Counter()
        self.open: dict[str, Promise] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def is_full(self) -> bool:
        """Whether so much is open that nothing new may be sent."""
        return len(self.open) >= OPEN_MAX

    def record(self, promise: Promise) -> None:
        """Write an attempt down."""
        if self._file is None:
            raise RuntimeError("use it as a context manager")
        self._file.write(promise.to_line())
        self.counts[promise.act, promise.outcome] += 1
        if promise.act in NOT_PROMISED:
            return
        if promise.outcome is Outcome.UNKNOWN:
            self.open[promise.idempotency_key] = promise
        else:
            self.open.pop(promise.idempotency_key, None)

    def read(self) -> Iterator[Promise]:
        """Yield every attempt, in the order of the answers."""
        if self._file is not None and not self._file.closed:
            self._file.flush()
        with self.path.open("rb") as lines:
            yield from map(Promise.of_line, lines)
