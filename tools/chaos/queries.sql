-- name: count_deliveries
-- How many deliveries wait, and whether the log was read for webhooks up to an event.
SELECT
    (SELECT count(*) FROM webhook_deliveries AS d WHERE d.status = 'PENDING') AS waiting,
    (
        SELECT $1::bigint IS NULL OR coalesce(p.log_offset >= $1, false)
        FROM webhook_progress AS p
    ) AS is_read;

-- name: hurry_deliveries
-- Makes due what waits for its next attempt, or for the end of a dead notifier's lease.
UPDATE webhook_deliveries
SET next_attempt_at = clock_timestamp()
WHERE status = 'PENDING' AND next_attempt_at > clock_timestamp();
