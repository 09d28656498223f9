"""Books written by one statement: correct, of any size, and with every status in them."""

from typing import Final

import asyncpg

# Transfers between wallets, drawn from a seeded generator, each with its two entries.
_POSTED: Final = """
CREATE TEMPORARY TABLE wallet_numbers AS
SELECT number, gen_random_uuid() AS id FROM generate_series(0, {wallets} - 1) AS number;

CREATE TEMPORARY TABLE moves AS
SELECT
    number, uuid_v7(1700000000000000 + number * 100, 1) AS id,
    (random() * ({wallets} - 1))::integer AS source, 1 + (random() * 100)::bigint AS amount,
    1 + (random() * ({wallets} - 2))::integer AS distance
FROM setseed(0.5), generate_series(1, {transactions}) AS number;

CREATE TEMPORARY TABLE lines AS
SELECT
    m.number, m.id AS transaction_id, w.id AS wallet_id, leg.amount, leg.side,
    row_number() OVER (PARTITION BY w.id ORDER BY m.number) AS sequence,
    sum(leg.amount) OVER (PARTITION BY w.id ORDER BY m.number) AS balance_after
FROM moves AS m
CROSS JOIN LATERAL (
    VALUES ('source', m.source, -m.amount),
    ('destination', (m.source + m.distance) % {wallets}, m.amount)
) AS leg (side, wallet, amount)
INNER JOIN wallet_numbers AS w ON w.number = leg.wallet;

INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
SELECT wallet_id, sequence, transaction_id, amount, balance_after, now()
FROM lines ORDER BY number, side;

INSERT INTO wallets (id, currency, balance, overdraft_limit, version)
SELECT w.id, 'EUR', coalesce(l.total, 0), 1000000000, coalesce(l.entries, 0)
FROM wallet_numbers AS w
LEFT JOIN (
    SELECT wallet_id, sum(amount) AS total, count(*) AS entries FROM lines GROUP BY wallet_id
) AS l ON l.wallet_id = w.id;

INSERT INTO transactions (
    id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
    destination_wallet_id, amount, currency, status, source_sequence, destination_sequence,
    created_at, completed_at
)
SELECT
    m.id, 'books', m.number::text, '\\x00', 'http', 'transfer', s.wallet_id, d.wallet_id,
    m.amount, 'EUR', 'COMPLETED', s.sequence, d.sequence, now(), now()
FROM moves AS m
INNER JOIN lines AS s ON s.number = m.number AND s.side = 'source'
INNER JOIN lines AS d ON d.number = m.number AND d.side = 'destination'
ORDER BY m.number;

DROP TABLE wallet_numbers, moves, lines;
"""

# One transaction for each status that has no entries, and one of the posted ones REVERSED by
# another.
_EVERY_STATUS: Final = """
INSERT INTO transactions (
    id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
    destination_wallet_id, amount, currency, status, failure_code, created_at
)
SELECT
    uuid_v7(clock_us()), 'books', status, '\\x00', 'amqp', 'transfer', gen_random_uuid(),
    gen_random_uuid(), 1, 'EUR', status::transaction_status, code::failure_code, clock_timestamp()
FROM (
    VALUES ('PENDING', NULL), ('FAILED', 'wallet_not_found'), ('QUARANTINED', NULL)
) AS rare (status, code);

WITH original AS (
    UPDATE transactions SET status = 'REVERSED'
    WHERE idempotency_key = '1' AND submitter = 'books'
    RETURNING *
),

changed AS (
    UPDATE wallets AS w
    SET
        balance = w.balance + CASE w.id WHEN o.source_wallet_id THEN o.amount ELSE -o.amount END,
        version = w.version + 1
    FROM original AS o
    WHERE w.id IN (o.source_wallet_id, o.destination_wallet_id)
    RETURNING w.id, w.balance, w.version
),

reversal AS (
    INSERT INTO transactions (
        id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
        destination_wallet_id, amount, currency, status, source_sequence, destination_sequence,
        reverses, has_terms, created_at, completed_at
    )
    SELECT
        uuid_v7(clock_us()), 'books', 'reversal of 1', '\\x00', 'http', 'reversal', s.id, d.id,
        o.amount, o.currency, 'COMPLETED', s.version, d.version, o.id, true, clock_timestamp(),
        clock_timestamp()
    FROM original AS o
    INNER JOIN changed AS s ON s.id = o.destination_wallet_id
    INNER JOIN changed AS d ON d.id = o.source_wallet_id
    RETURNING *
)

INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
SELECT
    c.id, c.version, r.id, CASE c.id WHEN r.source_wallet_id THEN -r.amount ELSE r.amount END,
    c.balance, now()
FROM changed AS c
CROSS JOIN reversal AS r;

INSERT INTO transaction_terms (transaction_id)
SELECT id FROM transactions WHERE type = 'reversal';

INSERT INTO exceptional_transactions (status, transaction_id)
SELECT status, id FROM transactions WHERE status IN ('FAILED', 'QUARANTINED', 'REVERSED');

ANALYZE;
"""

# The tables guard themselves; corruption comes from outside of these guards.
_UNGUARD: Final = """
ALTER TABLE entries DISABLE TRIGGER entries_append_only;
GRANT UPDATE, DELETE ON entries TO CURRENT_USER;
ALTER TABLE wallets DROP CONSTRAINT wallets_available_not_negative;
"""


async def write_books(
    connection: "asyncpg.Connection[asyncpg.Record]", *, transactions: int, wallets: int
) -> None:
    """Write correct books: so many posted transfers between so many wallets, and a few others."""
    await connection.execute(_POSTED.format(transactions=transactions, wallets=wallets))
    await connection.execute(_EVERY_STATUS)


async def corrupt(connection: "asyncpg.Connection[asyncpg.Record]", statements: str) -> None:
    """Change the tables behind their guards."""
    await connection.execute(_UNGUARD)
    await connection.execute(statements)
