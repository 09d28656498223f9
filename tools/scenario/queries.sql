-- name: read_clock
-- The database's moment, before which nothing of this scenario happened.
SELECT clock_timestamp() AS moment;

-- name: count_settled
-- How many of the scenario's transactions have come to an end.
SELECT count(*) AS settled
FROM transactions
WHERE starts_with(idempotency_key, $1) AND status IN ('COMPLETED', 'REVERSED', 'FAILED', 'QUARANTINED');

-- name: read_outcomes
-- What the scenario's transactions came to, by door and type.
SELECT
    channel::text AS door,
    type::text AS kind,
    CASE WHEN status = 'FAILED' THEN failure_code::text ELSE lower(status::text) END AS outcome,
    count(*) AS transactions
FROM transactions
WHERE starts_with(idempotency_key, $1)
GROUP BY channel, type, outcome;

-- name: read_dead_letters
-- The dead letters since a moment, by reason.
SELECT reason, count(*) AS dead_letters
FROM dead_letters
WHERE first_seen_at >= $1
GROUP BY reason;

-- name: find_id
-- The transaction of a key, once it is recorded.
SELECT id
FROM transactions
WHERE idempotency_key = $1;

-- name: list_ids
-- Each key of the scenario, and its transaction.
SELECT idempotency_key, id
FROM transactions
WHERE starts_with(idempotency_key, $1);

-- name: count_short_holds
-- How many of the scenario's holds expire while it runs.
SELECT count(*) AS holds
FROM transactions AS t
INNER JOIN transaction_terms AS s ON t.id = s.transaction_id
INNER JOIN holds AS h ON t.id = h.transaction_id
WHERE starts_with(t.idempotency_key, $1) AND s.expires_in_s < 60;

-- name: count_expired_holds
-- How many of the scenario's holds have expired, as the tables have it.
SELECT count(*) AS holds
FROM transactions AS t
INNER JOIN holds AS h ON t.id = h.transaction_id
WHERE starts_with(t.idempotency_key, $1) AND h.status = 'EXPIRED';

-- name: read_holds
-- The scenario's holds, by door and status.
SELECT
    t.channel::text AS door,
    lower(h.status::text) AS status,
    count(*) AS holds
FROM transactions AS t
INNER JOIN holds AS h ON t.id = h.transaction_id
WHERE starts_with(t.idempotency_key, $1)
GROUP BY t.channel, h.status;
