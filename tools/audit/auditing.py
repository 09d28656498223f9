"""One audit: the book is exported, recomputed by each program, compared, and tampered with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from cli.dependencies import Connection
from cli.export.exporting import Exported, export_book
from cli.export.reading import Span
from cli.export.texts import Accounts
from contracts.money import format_minor
from runtime.postgres.queries import load_queries
from tools.audit.programs import Program, Recomputed
from tools.audit.tampering import TAMPERINGS

TYPES: Final = ("deposit", "withdrawal", "transfer", "capture", "reversal", "journal")
"""What moves money: an audited book has some of each."""

_EVERYTHING: Final = Span()
_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one program said of the book, and of the book tampered with."""

    program: str
    version: str
    seconds: float
    differences: Sequence[str]
    missed: Sequence[str]
    """The tamperings that it did not find."""

    @property
    def agrees(self) -> bool:
        """Whether every balance is ours, and every tampering was found."""
        return not self.differences and not self.missed


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was audited, and every verdict."""

    exported: Exported
    by_type: Mapping[str, int]
    currencies: int
    verdicts: Sequence[Verdict] = field(default_factory=list)

    @property
    def missing_types(self) -> list[str]:
        """The types that the book has none of: nothing was proven of them."""
        return [one for one in TYPES if not self.by_type.get(one)]

    @property
    def is_well(self) -> bool:
        """Whether all agree on a book with every type in it."""
        return not self.missing_types and all(verdict.agrees for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "is_well": self.is_well,
            "wallets": self.exported.wallets,
            "transactions": self.exported.transactions,
            "by_type": dict(self.by_type),
            "currencies": self.currencies,
            "programs": [
                {
                    "program": one.program,
                    "version": one.version,
                    "seconds": round(one.seconds, 1),
                    "agrees": one.agrees,
                    "differences": list(one.differences),
                    "missed": list(one.missed),
                }
                for one in self.verdicts
            ],
        }


async def audit(
    connection: Connection, beside: Connection, programs: Sequence[Program], directory: Path
) -> AuditReport:
    """Export the whole book for each program and have it recomputed; files stay in `directory`.

    Both connections are to the same database, and nothing may be posted meanwhile: the balances are
    read after the exports.
    """
    sql = load_queries("tools.audit")
    exported = Exported()
    books = [(program, directory / f"book.{program.name}") for program in programs]
    for program, path in books:
        pieces: list[str] = []
        exported = await export_book(connection, beside, program.name, _EVERYTHING, pieces.append)
        path.write_text("".join(pieces), encoding="utf-8")
    rows = await connection.fetch(sql["list_wallets"])
    ours = _balances(rows)
    types = {row["type"]: row["transactions"] for row in await connection.fetch(sql["count_types"])}
    return AuditReport(
        exported,
        types,
        len({row["currency"] for row in rows}),
        [_verdict(program, path, ours) for program, path in books],
    )


def _balances(rows: Sequence[Any]) -> dict[str, Decimal]:
    """Return the balance of every wallet in major units, by its account."""
    own = {row["id"]: (row["kind"], row["currency"]) for row in rows if row["kind"] != "customer"}
    accounts = Accounts(own)
    return {
        accounts[row["id"]]: Decimal(format_minor(row["balance"], row["currency"])) for row in rows
    }


def _verdict(program: Program, file: Path, ours: Mapping[str, Decimal]) -> Verdict:
    recomputed = program.recompute(file)
    text = file.read_text(encoding="utf-8")
    missed = []
    for name, tamper in TAMPERINGS.items():
        tampered = file.with_suffix(".tampered")
        tampered.write_text(tamper(text), encoding="utf-8")
        if not differences(program.recompute(tampered), ours):
            missed.append(name)
        tampered.unlink()
    return Verdict(
        program.name, program.version(), recomputed.seconds, differences(recomputed, ours), missed
    )


def differences(recomputed: Recomputed, ours: Mapping[str, Decimal]) -> list[str]:
    """Return where a program does not agree with our balances, in sentences; a few are named."""
    if not recomputed.is_accepted:
        return [f"refused: {recomputed.reason}"]
    if recomputed.balances is None:
        return []
    theirs = recomputed.balances
    wrong = [
        f"{account}: {theirs.get(account, 'no account')}, ours {ours.get(account, 'no wallet')}"
        for account in sorted({*theirs, *ours})
        if theirs.get(account) != ours.get(account)
    ]
    more = len(wrong) - _NAMED_MAX
    return [*wrong[:_NAMED_MAX], *([f"and {more} more"] if more > 0 else [])]
