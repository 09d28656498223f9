"""Verification of a few transactions: their legs, the entries before those, and their wallets.

It finds by keys what `verify` finds by reading all: an entry whose balance does not follow from the
one before, a wallet that is not what its last entry says, a leg without its entry, an entry that is
nobody's. By induction over a wallet's entries, each checked when it is new, the balance is the sum.
What was changed afterwards, behind the last entries, only `verify` sees.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from processor.verification.checks import (
    leg_findings,
    status_findings,
    touched_wallet_findings,
)
from processor.verification.report import Finding
from runtime.database import Connection
from runtime.queries import load_queries

WRONG_ROWS_MAX: Final = 100
"""Rows that are brought out for each question: books that are worse need `verify`."""


async def check_transactions(
    connection: Connection, transaction_ids: Sequence[UUID]
) -> list[Finding]:
    """Return what is wrong with these transactions as they are now, whatever is posted meanwhile.

    Each question is one statement, which sees one moment. `connection` looks up by index
    (reconciler.LOOKUP_SESSION). Ids without a row are no finding.
    """
    if not transaction_ids:
        return []
    sql = load_queries("processor.verification")
    findings: list[Finding] = []
    for query, findings_of in (
        ("list_wrong_legs", leg_findings),
        ("list_wrong_wallets", touched_wallet_findings),
        ("list_wrong_statuses", status_findings),
    ):
        rows = await connection.fetch(sql[query], transaction_ids, WRONG_ROWS_MAX)
        for row in rows:
            findings.extend(findings_of(row))
    return findings
