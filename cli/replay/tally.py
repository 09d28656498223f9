"""What a replay has come to so far."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from cli.replay.reading import BadRow

LISTED_MAX: Final = 20
"""Bad rows that are kept to be listed; all are counted."""


@dataclass(slots=True)
class Trail:
    """What is remembered of one wallet: how many rows debit it, and the last of them.

    `last` is the transaction's id over HTTP, its idempotency key over AMQP. A wallet's transactions
    are posted in their order: when the last is final, all are.
    """

    rows: int = 0
    last: str | None = None


@dataclass(slots=True)
class Tally:
    """The counts of one replay. What is not known (yet) is None.

    `answered`: accepted over HTTP, or confirmed by the broker. `new` and `replays` split them.
    `problems` are rows that the HTTP door refused, by code; `refused` are new transactions that
    the ledger refused, by failure code.
    """

    rows: int = 0
    invalid: int = 0
    listed: list[BadRow] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    new: int | None = None
    replays: int | None = None
    problems: Counter[str] = field(default_factory=Counter)
    completed: int | None = None
    refused: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    retries: int = 0
    wallets: int = 0
    duration_s: float = 0.0
    settling_s: float | None = None
    submitter: str | None = None
    since: str | None = None
    trails: dict[str, Trail] = field(default_factory=dict)

    def reject(self, row: BadRow) -> None:
        """Count a row that is no transaction."""
        self.invalid += 1
        self._list(row)

    def meet_problem(self, line: int, problem: dict[str, Any]) -> None:
        """Count a row that the HTTP door refused."""
        code = str(problem.get("code", "unknown"))
        self.problems[code] += 1
        self._list(BadRow(line, f"{code}: {problem.get('detail')}"))

    @property
    def rate_per_s(self) -> float:
        """Answered rows a second, while sending."""
        return self.answered / self.duration_s if self.duration_s else 0.0

    def is_well(self, *, allow_refusals: bool) -> bool:
        """Whether every row became a transaction, and none that is known of failed."""
        is_sent = not (self.invalid or self.problems or self.quarantined)
        return is_sent and (allow_refusals or not self.refused)

    def _list(self, row: BadRow) -> None:
        if len(self.listed) < LISTED_MAX:
            self.listed.append(row)
