"""Transactions with terms, each type in each of its ends, written into correct books by SQL."""

from typing import Final

import asyncpg

# Wallets and transactions by name: every sum below is easily seen.
_NAMED: Final = """
CREATE TEMPORARY TABLE named AS
SELECT name, gen_random_uuid() AS id
FROM unnest(ARRAY[
    'buyer', 'seller', 'dollars', 'world_eur', 'world_usd',
    'hold_open', 'hold_captured', 'hold_released', 'hold_expired', 'capture', 'capture_rest',
    'release', 'journal', 'journal_reversal', 'journal_failed', 'move', 'part', 'rest', 'half',
    'some', 'member_1', 'member_2', 'member_failed_1', 'member_failed_2', 'later',
    'batch', 'batch_failed', 'batch_later'
]) AS name;

CREATE FUNCTION pg_temp.of(wanted text) RETURNS uuid LANGUAGE sql AS
$$ SELECT id FROM pg_temp.named WHERE name = wanted $$;
"""

# Every posted leg, in the order of posting; amounts in minor units.
_LEGS: Final = """
CREATE TEMPORARY TABLE legs AS
SELECT
    l.number, l.transaction, l.wallet, l.amount,
    row_number() OVER (PARTITION BY l.wallet ORDER BY l.number) AS sequence,
    sum(l.amount) OVER (PARTITION BY l.wallet ORDER BY l.number) AS balance_after
FROM (VALUES
    (1, 'move', 'world_eur', -10000), (2, 'move', 'buyer', 10000),
    (3, 'capture', 'buyer', -300), (4, 'capture', 'seller', 300),
    (5, 'capture_rest', 'buyer', -200), (6, 'capture_rest', 'seller', 200),
    (7, 'journal', 'buyer', -110), (8, 'journal', 'seller', 100), (9, 'journal', 'seller', 10),
    (10, 'journal', 'world_usd', -55), (11, 'journal', 'dollars', 55),
    (12, 'journal_reversal', 'buyer', 110), (13, 'journal_reversal', 'seller', -100),
    (14, 'journal_reversal', 'seller', -10), (15, 'journal_reversal', 'world_usd', 55),
    (16, 'journal_reversal', 'dollars', -55),
    (17, 'half', 'buyer', -50), (18, 'half', 'seller', 50),
    (19, 'part', 'seller', -20), (20, 'part', 'buyer', 20),
    (21, 'rest', 'seller', -30), (22, 'rest', 'buyer', 30),
    (23, 'some', 'seller', -1), (24, 'some', 'buyer', 1),
    (25, 'member_1', 'buyer', -7), (26, 'member_1', 'seller', 7),
    (27, 'member_2', 'seller', -7), (28, 'member_2', 'buyer', 7)
) AS l (number, transaction, wallet, amount);

INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
SELECT pg_temp.of(wallet), sequence, pg_temp.of(transaction), amount, balance_after, now()
FROM legs ORDER BY number;

INSERT INTO wallets (id, currency, kind, balance, version, held)
SELECT
    pg_temp.of(n.name), CASE WHEN n.name IN ('dollars', 'world_usd') THEN 'USD' ELSE 'EUR' END,
    CASE WHEN n.name ^@ 'world' THEN 'external' ELSE 'customer' END::wallet_kind,
    (SELECT sum(amount) FROM legs WHERE wallet = n.name),
    (SELECT count(*) FROM legs WHERE wallet = n.name),
    CASE n.name WHEN 'buyer' THEN 450 ELSE 0 END
FROM named AS n WHERE n.name IN ('buyer', 'seller', 'dollars', 'world_eur', 'world_usd');
"""

_TRANSACTIONS: Final = """
INSERT INTO transactions (
    id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
    destination_wallet_id, amount, currency, status, failure_code, source_sequence,
    destination_sequence, reverses, has_terms, created_at, completed_at
)
SELECT
    pg_temp.of(t.name), 'terms', t.name, '\\x00', 'http', t.type::transaction_type,
    pg_temp.of(t.source), pg_temp.of(t.destination), t.amount, t.currency,
    t.status::transaction_status,
    CASE t.status WHEN 'FAILED' THEN 'batch_failed' END::failure_code,
    (SELECT sequence FROM legs AS l WHERE l.transaction = t.name AND l.wallet = t.source),
    (SELECT sequence FROM legs AS l WHERE l.transaction = t.name AND l.wallet = t.destination),
    pg_temp.of(t.reverses), CASE WHEN t.name NOT IN ('move', 'half') THEN true END, now(), now()
FROM (VALUES
    ('move', 'deposit', 'world_eur', 'buyer', 10000, 'EUR', 'COMPLETED', NULL),
    ('hold_open', 'hold', 'buyer', NULL, 750, 'EUR', 'COMPLETED', NULL),
    ('hold_captured', 'hold', 'buyer', 'seller', 200, 'EUR', 'COMPLETED', NULL),
    ('hold_released', 'hold', 'buyer', NULL, 50, 'EUR', 'COMPLETED', NULL),
    ('hold_expired', 'hold', 'buyer', NULL, 60, 'EUR', 'COMPLETED', NULL),
    ('capture', 'capture', 'buyer', 'seller', 300, 'EUR', 'COMPLETED', NULL),
    ('capture_rest', 'capture', 'buyer', 'seller', 200, 'EUR', 'COMPLETED', NULL),
    ('release', 'release', 'buyer', NULL, 50, 'EUR', 'COMPLETED', NULL),
    ('journal', 'journal', NULL, NULL, NULL, NULL, 'REVERSED', NULL),
    ('journal_reversal', 'reversal', NULL, NULL, NULL, NULL, 'COMPLETED', 'journal'),
    ('journal_failed', 'journal', NULL, NULL, NULL, NULL, 'FAILED', NULL),
    ('half', 'transfer', 'buyer', 'seller', 50, 'EUR', 'REVERSED', NULL),
    ('part', 'reversal', 'seller', 'buyer', 20, 'EUR', 'COMPLETED', 'half'),
    ('rest', 'reversal', 'seller', 'buyer', 30, 'EUR', 'COMPLETED', 'half'),
    ('some', 'reversal', 'seller', 'buyer', 1, 'EUR', 'COMPLETED', 'capture'),
    ('member_1', 'transfer', 'buyer', 'seller', 7, 'EUR', 'COMPLETED', NULL),
    ('member_2', 'transfer', 'seller', 'buyer', 7, 'EUR', 'COMPLETED', NULL),
    ('member_failed_1', 'transfer', 'buyer', 'seller', 7, 'EUR', 'FAILED', NULL),
    ('member_failed_2', 'transfer', 'seller', 'buyer', 7, 'EUR', 'FAILED', NULL),
    ('later', 'transfer', 'seller', 'buyer', 7, 'EUR', 'SCHEDULED', NULL)
) AS t (name, type, source, destination, amount, currency, status, reverses);

INSERT INTO exceptional_transactions (status, transaction_id)
SELECT status, id FROM transactions WHERE submitter = 'terms' AND status IN ('FAILED', 'REVERSED');

INSERT INTO transaction_terms (transaction_id, hold_id, batch_id, execute_at)
SELECT
    id,
    CASE idempotency_key
        WHEN 'capture' THEN pg_temp.of('hold_open')
        WHEN 'capture_rest' THEN pg_temp.of('hold_captured')
        WHEN 'release' THEN pg_temp.of('hold_released')
    END,
    CASE
        WHEN idempotency_key ^@ 'member_failed' THEN pg_temp.of('batch_failed')
        WHEN idempotency_key ^@ 'member' THEN pg_temp.of('batch')
    END,
    CASE WHEN status = 'SCHEDULED' THEN now() + interval '1 day' END
FROM transactions WHERE submitter = 'terms' AND has_terms;

INSERT INTO scheduled_transactions (execute_at, transaction_id)
SELECT execute_at, transaction_id FROM transaction_terms WHERE execute_at IS NOT NULL;

INSERT INTO transaction_legs (
    transaction_id, position, wallet_id, currency, amount, is_external, sequence
)
SELECT
    pg_temp.of(l.transaction), row_number() OVER (PARTITION BY l.transaction ORDER BY l.number),
    w.id, w.currency, l.amount, w.kind = 'external', l.sequence
FROM legs AS l
INNER JOIN wallets AS w ON w.id = pg_temp.of(l.wallet)
WHERE l.transaction ^@ 'journal';

INSERT INTO transaction_legs (transaction_id, position, wallet_id, currency, amount, is_external)
VALUES
(pg_temp.of('journal_failed'), 1, pg_temp.of('buyer'), 'EUR', -5, false),
(pg_temp.of('journal_failed'), 2, pg_temp.of('seller'), 'EUR', 5, false);

INSERT INTO holds (
    transaction_id, wallet_id, destination_wallet_id, currency, amount, captured, remaining,
    status, expires_at, updated_at
)
VALUES
(pg_temp.of('hold_open'), pg_temp.of('buyer'), NULL, 'EUR', 750, 300, 450, 'OPEN',
    now() + interval '1 day', now()),
(pg_temp.of('hold_captured'), pg_temp.of('buyer'), pg_temp.of('seller'), 'EUR', 200, 200, 0,
    'CAPTURED', now() + interval '1 day', now()),
(pg_temp.of('hold_released'), pg_temp.of('buyer'), NULL, 'EUR', 50, 0, 0, 'RELEASED',
    now() + interval '1 day', now()),
(pg_temp.of('hold_expired'), pg_temp.of('buyer'), NULL, 'EUR', 60, 0, 0, 'EXPIRED',
    now() - interval '1 day', now());

DROP FUNCTION pg_temp.of;
DROP TABLE named, legs;
ANALYZE;
"""

TRANSACTIONS: Final = 20
WALLETS: Final = 5
ENTRIES: Final = 28


async def write_terms(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Write transactions of every type; each has its name as idempotency key."""
    await connection.execute(_NAMED + _LEGS + _TRANSACTIONS)
