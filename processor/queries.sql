-- name: record_transactions
-- Upstream's requests become PENDING rows, by the same function as the ingress's.
SELECT
    request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $13) AS is_any_unannounced
FROM record_transactions('amqp', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: read_pending
-- What is still to be posted, without a lock: `write_posting` counts what it changes. First what the
-- ledger needs, then what the events tell. OFFSET 0 keeps the lookup by key: a plan that was made
-- while the table was small would read all of it.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $2) AS is_any_unannounced
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT one.* FROM transactions AS one WHERE one.id = wanted.id OFFSET 0) AS t
WHERE t.status = 'PENDING';

-- name: lock_pending
-- The same, locked in id order, after somebody changed them between their reading and their
-- writing. Joined, not `= ANY`: a conflicting row would recheck the whole array.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $2) AS is_any_unannounced
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN transactions AS t ON t.id = wanted.id
WHERE t.status = 'PENDING'
ORDER BY t.id
FOR NO KEY UPDATE OF t;

-- name: read_unannounced
-- What these submitters had accepted before some transaction of theirs ($3: the highest id) and no
-- queue may hold yet: the oldest $4 of each that are still to be posted.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at, true AS is_any_unannounced
FROM unnest($2::text[], $3::uuid[]) AS before (submitter, id)
CROSS JOIN LATERAL (
    SELECT one.*
    FROM unannounced_transactions AS u
    CROSS JOIN LATERAL (
        SELECT found.* FROM transactions AS found WHERE found.id = u.transaction_id OFFSET 0
    ) AS one
    WHERE
        u.partition = $1
        AND u.submitter = before.submitter
        AND u.transaction_id < before.id
        AND one.status = 'PENDING'
    ORDER BY u.transaction_id
    LIMIT $4
) AS t;

-- name: forget_unannounced
-- What was posted needs no mark any more.
DELETE FROM unannounced_transactions
WHERE partition = $1 AND transaction_id = ANY ($2::uuid[]);

-- name: read_traces
-- What the requests of transactions were called.
SELECT id, request_id, traceparent FROM transactions WHERE id = ANY ($1::uuid[]);

-- name: read_wallets
-- The wallets that no batch before left in memory, without a lock: `write_posting` writes over no
-- other row than the one that was read.
SELECT
    w.id, w.kind::text, w.currency, w.status::text, w.balance, w.held, w.overdraft_limit,
    w.version, w.row_version, w.updated_at
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT one.*, one.xmin AS row_version FROM wallets AS one WHERE one.id = wanted.id OFFSET 0
) AS w;

-- name: lock_wallets
-- The same, locked. Every batch locks in id order, so two batches can never deadlock. The row that is returned is the one that was locked: the newest.
SELECT
    w.id, w.kind::text, w.currency, w.status::text, w.balance, w.held, w.overdraft_limit,
    w.version, w.xmin AS row_version, w.updated_at
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id
ORDER BY w.id
FOR NO KEY UPDATE OF w;

-- name: write_posting
-- A batch in one statement; see migrations/0009 to 0011.
SELECT p.moment, p.row_version, p.completed_outbox_id
FROM
    write_posting($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) AS p,
    expect_wallets($17, $18);

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
-- The oldest owed events that no other relay has in hand, from an age of $2 seconds. Never by
-- `id > last`: they commit out of order.
SELECT id, event_type, transaction_ids, created_at
FROM outbox
WHERE created_at <= clock_timestamp() - make_interval(secs => $2)
ORDER BY id
LIMIT $1
FOR UPDATE SKIP LOCKED;

-- name: delete_outbox
-- Confirmed events are owed no longer.
DELETE FROM outbox WHERE id = ANY ($1::uuid[]);
