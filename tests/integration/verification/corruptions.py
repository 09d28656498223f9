"""What can be wrong with the books, and what each verification must say of it."""

from collections.abc import Collection
from dataclasses import dataclass

from verification.checks import Check

EVERY_ENTRY = 1000
"""Stands for the number of entries of the wallet with the fewest."""


@dataclass(frozen=True)
class Corruption:
    """What is done to the books, and the checks that must tell of it: no more and no less.

    `checks` and `findings` are those of all books, `by_keys` those of the looked up transactions.
    """

    name: str
    statements: str
    checks: frozenset[Check]
    findings: int
    by_keys: frozenset[Check]


def _corruption(
    name: str,
    statements: str,
    *checks: Check,
    findings: int = 1,
    by_keys: Collection[Check] | None = None,
) -> Corruption:
    """Without `by_keys` both verifications tell of it by the same checks."""
    looked_up = checks if by_keys is None else by_keys
    return Corruption(name, statements, frozenset(checks), findings, frozenset(looked_up))


# The wallet with the most entries, and its middle entry.
WALLET = "(SELECT id FROM wallets ORDER BY version DESC, id LIMIT 1)"
MIDDLE = f"wallet_id = {WALLET} AND sequence = 5"
_LAST = f"wallet_id = {WALLET} AND sequence = (SELECT version FROM wallets WHERE id = {WALLET})"
# Some posted transaction: not the REVERSED one.
_POSTED = "idempotency_key = '7'"

CORRUPTIONS = [
    _corruption(
        "a balance off by one",
        f"UPDATE wallets SET balance = balance + 1 WHERE id = {WALLET}",
        Check.WALLET_BALANCE,
    ),
    _corruption(
        "a version ahead",
        f"UPDATE wallets SET version = version + 1 WHERE id = {WALLET}",
        Check.WALLET_VERSION,
    ),
    _corruption(
        "less than nothing available",
        f"UPDATE wallets SET held = balance + overdraft_limit + 1 WHERE id = {WALLET}",
        Check.WALLET_AVAILABLE,
        Check.HELD,
        findings=2,
    ),
    _corruption(
        "a gap in the sequence",
        f"""
        UPDATE transactions SET source_sequence = source_sequence + 1
        WHERE source_wallet_id = {WALLET} AND id = (SELECT transaction_id FROM entries
        WHERE {_LAST});
        UPDATE transactions SET destination_sequence = destination_sequence + 1
        WHERE destination_wallet_id = {WALLET} AND id = (SELECT transaction_id FROM entries
        WHERE {_LAST});
        UPDATE entries SET sequence = sequence + 1 WHERE {_LAST}
        """,
        Check.ENTRY_SEQUENCE,
        by_keys=[Check.ENTRY_SEQUENCE, Check.WALLET_VERSION],
    ),
    _corruption(
        "a balance_after that does not follow",
        f"UPDATE entries SET balance_after = balance_after + 1 WHERE {MIDDLE}",
        Check.ENTRY_CHAIN,
        findings=2,  # nor does the next one follow from it
    ),
    _corruption(
        "a balance_after at the end of 64 bits",
        f"UPDATE entries SET balance_after = 9223372036854775807 WHERE {MIDDLE}",
        Check.ENTRY_CHAIN,
        findings=2,
    ),
    _corruption(
        "a wallet that is gone",
        f"DELETE FROM wallets WHERE id = {WALLET}",
        Check.ENTRY_WALLET,
        Check.CURRENCY_SUM,
        findings=2,
        by_keys=[Check.ENTRY_WALLET],
    ),
    _corruption(
        "two entries of a transaction that is not",
        """
        WITH invented AS (SELECT gen_random_uuid() AS id),
        changed AS (
            UPDATE wallets AS w
            SET version = version + 1, balance = balance + a.amount
            FROM (
                SELECT id, CASE row_number() OVER (ORDER BY id) WHEN 1 THEN 5 ELSE -5 END AS amount
                FROM wallets ORDER BY id LIMIT 2
            ) AS a
            WHERE w.id = a.id
            RETURNING w.id, w.version, a.amount, w.balance
        )
        INSERT INTO entries SELECT c.id, c.version, i.id, c.amount, c.balance, now()
        FROM changed AS c, invented AS i
        """,
        Check.ENTRY_TRANSACTION,
        findings=2,
    ),
    _corruption(
        "an entry of a transaction that is not, at the end of its wallet",
        f"""
        WITH changed AS (
            UPDATE wallets SET version = version + 1, balance = balance + 5
            WHERE id = {WALLET} RETURNING id, version, balance
        )
        INSERT INTO entries SELECT id, version, gen_random_uuid(), 5, balance, now() FROM changed
        """,
        Check.ENTRY_TRANSACTION,
        Check.CURRENCY_SUM,
        findings=2,
        by_keys=[Check.ENTRY_TRANSACTION],
    ),
    _corruption(
        "an entry that belongs to another transaction",
        f"UPDATE entries SET transaction_id = gen_random_uuid() WHERE {MIDDLE}",
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=2,
        by_keys=[Check.TRANSACTION_LEGS],
    ),
    _corruption(
        "a third entry of a posted transaction",
        f"""
        WITH changed AS (
            UPDATE wallets SET version = version + 1, balance = balance + 5
            WHERE id = {WALLET} RETURNING id, version, balance
        )
        INSERT INTO entries
        SELECT c.id, c.version, t.id, 5, c.balance, now() FROM changed AS c, transactions AS t
        WHERE t.{_POSTED}
        """,
        Check.ENTRY_TRANSACTION,
        Check.CURRENCY_SUM,
        findings=2,
        by_keys=[Check.ENTRY_TRANSACTION],
    ),
    _corruption(
        "an entry that is gone",
        f"DELETE FROM entries WHERE {_LAST}",
        Check.WALLET_BALANCE,
        Check.WALLET_VERSION,
        Check.TRANSACTION_LEGS,
        Check.CURRENCY_SUM,
        findings=4,
        by_keys=[Check.WALLET_BALANCE, Check.WALLET_VERSION, Check.TRANSACTION_LEGS],
    ),
    _corruption(
        "a wallet in another currency",
        """
        UPDATE wallets SET currency = 'USD' WHERE id = (
            SELECT w.id FROM wallets AS w WHERE w.balance <> 0 ORDER BY w.version, w.id LIMIT 1
        )
        """,
        Check.ENTRY_CURRENCY,
        Check.CURRENCY_SUM,
        findings=EVERY_ENTRY + 2,  # of both currencies the sum is off
        by_keys=[Check.ENTRY_CURRENCY],
    ),
    _corruption(
        "a COMPLETED transaction without entries",
        "UPDATE transactions SET status = 'COMPLETED' WHERE status = 'PENDING'",
        Check.TRANSACTION_LEGS,
        findings=2,
    ),
    _corruption(
        "another amount than that of the entries",
        f"UPDATE transactions SET amount = amount + 1 WHERE {_POSTED}",
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=4,
        by_keys=[Check.TRANSACTION_LEGS],
    ),
    _corruption(
        "legs the wrong way round",
        f"""
        UPDATE transactions SET source_wallet_id = destination_wallet_id,
        destination_wallet_id = source_wallet_id, source_sequence = destination_sequence,
        destination_sequence = source_sequence WHERE {_POSTED}
        """,
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=4,
        by_keys=[Check.TRANSACTION_LEGS],
    ),
    _corruption(
        "a transaction that names another's entry",
        """
        UPDATE transactions AS t SET source_sequence = t.source_sequence + 1
        WHERE t.id = (SELECT transaction_id FROM entries WHERE amount < 0 AND sequence = 3
        ORDER BY wallet_id LIMIT 1)
        """,
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=2,
    ),
    _corruption(
        "a FAILED transaction that names entries",
        "UPDATE transactions SET source_sequence = 1 WHERE status = 'FAILED'",
        Check.UNPOSTED_LEGS,
    ),
    _corruption(
        "a posted transaction made PENDING again",
        f"UPDATE transactions SET status = 'PENDING' WHERE {_POSTED}",
        Check.UNPOSTED_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=3,
    ),
    _corruption(
        "a transaction that waits too long",
        "UPDATE transactions SET created_at = now() - interval '301 s' WHERE status = 'PENDING'",
        Check.PENDING_AGE,
        by_keys=[],
    ),
    _corruption(
        "a FAILED transaction that is not listed",
        "DELETE FROM exceptional_transactions WHERE status = 'FAILED'",
        Check.EXCEPTIONAL_LIST,
    ),
    _corruption(
        "a COMPLETED transaction listed as FAILED",
        "INSERT INTO exceptional_transactions SELECT 'FAILED', id FROM transactions "
        f"WHERE {_POSTED}",
        Check.EXCEPTIONAL_LIST,
        by_keys=[],  # it asks the list for what is not COMPLETED, and reads no other row of it
    ),
]
