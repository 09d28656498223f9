-- name: list_keys
-- Every idempotency key.
SELECT t.idempotency_key FROM transactions AS t;

-- name: is_busy
-- Whether anything waits for posting, or an event for its publication.
SELECT
    EXISTS (SELECT FROM transactions AS t WHERE t.status = 'PENDING')
    OR EXISTS (SELECT FROM outbox);

-- name: is_recovering
-- Whether the server takes no writes yet.
SELECT pg_is_in_recovery();

-- name: count_hostile
-- What messages of the fuzzer became, and how many of its good ones were posted.
SELECT
    (SELECT count(*) FROM transactions AS t WHERE t.channel = 'amqp') AS transactions,
    (SELECT count(*) FROM dead_letters) AS letters,
    (
        SELECT count(*) FROM transactions AS t
        WHERE t.idempotency_key LIKE 'good-%' AND t.status = 'COMPLETED'
    ) AS good;
