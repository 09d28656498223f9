-- name: read_clock
-- The database's moment, before which nothing of this scenario happened.
SELECT clock_timestamp() AS moment;

-- name: count_settled
-- How many of the scenario's transactions have come to an end.
SELECT count(*) AS settled
FROM transactions
WHERE starts_with(idempotency_key, $1) AND status IN ('COMPLETED', 'FAILED', 'QUARANTINED');

-- name: read_outcomes
-- What the scenario's transactions came to, by door.
SELECT
    channel::text AS door,
    CASE WHEN status = 'FAILED' THEN failure_code::text ELSE lower(status::text) END AS outcome,
    count(*) AS transactions
FROM transactions
WHERE starts_with(idempotency_key, $1)
GROUP BY channel, outcome;

-- name: read_dead_letters
-- The dead letters since a moment, by reason.
SELECT reason, count(*) AS dead_letters
FROM dead_letters
WHERE first_seen_at >= $1
GROUP BY reason;
