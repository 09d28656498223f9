-- name: list_keys
-- Every idempotency key.
SELECT t.idempotency_key FROM transactions AS t;

-- name: has_pending
-- Whether anything waits for posting.
SELECT EXISTS (SELECT FROM transactions AS t WHERE t.status = 'PENDING');

-- name: is_recovering
-- Whether the server takes no writes yet.
SELECT pg_is_in_recovery();
