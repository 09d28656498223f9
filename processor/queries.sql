-- name: record_transactions
-- Upstream's requests become PENDING rows, by the same function as the ingress's.
SELECT request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at
FROM record_transactions('amqp', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: read_pending
-- What is still to be posted, without a lock: `write_posting` counts what it changed.
SELECT t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN transactions AS t ON t.id = wanted.id
WHERE t.status = 'PENDING';

-- name: lock_pending
-- The same, locked in id order, after somebody changed them between their reading and their
-- writing. Joined, not `= ANY`: a conflicting row would recheck the whole array.
SELECT t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN transactions AS t ON t.id = wanted.id
WHERE t.status = 'PENDING'
ORDER BY t.id
FOR NO KEY UPDATE OF t;

-- name: read_traces
-- What the requests of transactions were called.
SELECT id, request_id, traceparent FROM transactions WHERE id = ANY ($1::uuid[]);

-- name: lock_wallets
-- Every batch locks in id order, so two batches can never deadlock. The row that is returned is the
-- one that was locked: the newest.
SELECT
    w.id, w.kind::text, w.currency, w.status::text, w.balance, w.held, w.overdraft_limit,
    w.version, w.updated_at
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id
ORDER BY w.id
FOR NO KEY UPDATE OF w;

-- name: write_posting
-- A batch in one statement: balances, entries, statuses, the events owed, and a nudge to whoever
-- waits. The moment never precedes a locked wallet's last change, so entries stay in time order.
WITH moment AS MATERIALIZED (
    SELECT greatest(clock_timestamp(), $1::timestamptz) AS at
),

changed_wallets AS (
    UPDATE wallets AS w
    SET balance = c.balance, version = c.version, updated_at = moment.at
    FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS c (id, balance, version), moment
    WHERE w.id = c.id
    RETURNING w.id
),

completed AS (
    UPDATE transactions AS t
    SET
        status = 'COMPLETED',
        source_sequence = p.source_sequence,
        destination_sequence = p.destination_sequence,
        completed_at = moment.at
    FROM unnest($5::uuid[], $9::bigint[], $10::bigint[])
        AS p (id, source_sequence, destination_sequence), moment
    WHERE t.id = p.id AND t.status = 'PENDING'
    RETURNING t.id
),

failed AS (
    UPDATE transactions AS t
    SET
        status = 'FAILED',
        failure_code = r.code::failure_code,
        failure_detail = r.detail,
        completed_at = moment.at
    FROM unnest($13::uuid[], $14::text[], $15::text[]) AS r (id, code, detail), moment
    WHERE t.id = r.id AND t.status = 'PENDING'
    RETURNING t.id
),

exceptional AS (
    INSERT INTO exceptional_transactions (status, transaction_id)
    SELECT 'FAILED', failed.id FROM failed
),

new_entries AS (
    INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
    SELECT debit.wallet_id, debit.sequence, debit.id, -debit.amount, debit.balance_after, moment.at
    FROM unnest($5::uuid[], $6::uuid[], $8::bigint[], $9::bigint[], $11::bigint[])
        AS debit (id, wallet_id, amount, sequence, balance_after), moment
    UNION ALL
    SELECT credit.wallet_id, credit.sequence, credit.id, credit.amount, credit.balance_after,
        moment.at
    FROM unnest($5::uuid[], $7::uuid[], $8::bigint[], $10::bigint[], $12::bigint[])
        AS credit (id, wallet_id, amount, sequence, balance_after), moment
    RETURNING wallet_id
),

owed AS (
    INSERT INTO outbox (id, event_type, transaction_ids, created_at)
    SELECT uuid_v7(clock_us(), o.position::integer), o.event_type, o.transaction_ids, moment.at
    FROM (VALUES (1, 'completed', $5::uuid[]), (2, 'failed', $13::uuid[]))
        AS o (position, event_type, transaction_ids), moment
    WHERE cardinality(o.transaction_ids) > 0
)

SELECT
    (SELECT count(*) FROM changed_wallets) AS wallets,
    (SELECT count(*) FROM completed) AS completed,
    (SELECT count(*) FROM failed) AS failed,
    (SELECT count(*) FROM new_entries) AS entries,
    pg_notify('ackledger_posted', '');

-- name: quarantine
-- Sets one PENDING transaction aside for an operator, and owes the event.
WITH quarantined AS (
    UPDATE transactions SET status = 'QUARANTINED'
    WHERE id = $1 AND status = 'PENDING'
    RETURNING id
),

exceptional AS (
    INSERT INTO exceptional_transactions (status, transaction_id)
    SELECT 'QUARANTINED', quarantined.id FROM quarantined
),

owed AS (
    INSERT INTO outbox (id, event_type, transaction_ids, created_at)
    SELECT uuid_v7(clock_us()), 'quarantined', ARRAY[quarantined.id], clock_timestamp()
    FROM quarantined
)

SELECT count(*) = 1 AS is_quarantined FROM quarantined;

-- name: probe
-- Whether posting has a chance again: a migrated database that takes writes. A former primary that
-- became a standby answers, and is of no use.
SELECT
    current_setting('transaction_read_only') = 'off'
    AND to_regclass('transactions') IS NOT NULL AS is_usable;

-- name: read_transactions
-- Whole transactions, for results and events.
SELECT * FROM transaction_views WHERE id = ANY ($1::uuid[]);

-- name: lock_outbox
-- The oldest owed events that no other relay has in hand. Never by `id > last`: they commit out of
-- order.
SELECT id, event_type, transaction_ids, created_at
FROM outbox
ORDER BY id
LIMIT $1
FOR UPDATE SKIP LOCKED;

-- name: delete_outbox
-- Confirmed events are owed no longer.
DELETE FROM outbox WHERE id = ANY ($1::uuid[]);
