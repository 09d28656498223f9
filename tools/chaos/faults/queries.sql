-- name: count_pending
-- How many transactions wait to be posted.
SELECT count(*) FROM transactions WHERE status = 'PENDING';

-- name: read_clock
-- The database's time: the only one that transactions know.
SELECT clock_timestamp();

-- name: is_completed_since
-- Whether anything was completed after a moment.
SELECT EXISTS (SELECT FROM transactions WHERE status = 'COMPLETED' AND completed_at > $1);

-- name: end_sessions_of_processes
-- Ends every session of an ingress, a processor or a reconciler.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE application_name SIMILAR TO 'ackledger-(ingress|processor|reconciler)%';

-- name: fill_wallets
-- Adds idle wallets up to $1: plans and locks shall be those of a table that is not small.
INSERT INTO wallets (id, currency)
SELECT gen_random_uuid(), 'USD'
FROM generate_series(1, $1 - (SELECT count(*) FROM wallets));

-- name: is_anybody_blocked
-- Whether a session of a processor waits for a lock that another session holds.
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE application_name = 'ackledger-processor' AND wait_event_type = 'Lock'
);

-- name: read_hot_wallets
-- The wallets with the most entries; those of the world outside are among them.
SELECT array_agg(id) FROM (SELECT id FROM wallets ORDER BY version DESC LIMIT $1) AS hot;

-- name: lock_wallets
-- Holds wallets against every batch that would post to them.
SELECT FROM wallets WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE;

-- name: take_room
-- Needs more room on the disk than a full one has.
CREATE TEMPORARY TABLE room AS
SELECT repeat(md5(number::text), 30) AS filling FROM generate_series(1, 20000) AS number;

-- name: is_final_by_key
-- Whether the transaction of a key has ended.
SELECT EXISTS (
    SELECT FROM transactions
    WHERE submitter = $1 AND idempotency_key = $2 AND status IN ('COMPLETED', 'FAILED')
);

-- name: read_dead_letter
-- The dead letter of a message with this body.
SELECT id FROM dead_letters WHERE body = $1;
