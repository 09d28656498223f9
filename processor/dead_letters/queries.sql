-- name: insert_dead_letters
-- Stores messages once, however often the broker delivers them. One moment for all: their ids keep
-- the order in which they came, whatever the order of inserting, which avoids deadlocks.
WITH moment AS MATERIALIZED (
    SELECT clock_us() AS at_us
)

INSERT INTO dead_letters (
    id, first_seen_at, message_id, queue, reason, detail, body, headers, submitter,
    transaction_id, message_type, content_type
)
SELECT
    uuid_v7(moment.at_us, l.position::integer),
    timestamptz 'epoch' + moment.at_us * interval '1 microsecond', l.message_id, l.queue, l.reason, l.detail, l.body,
    l.headers::json, l.submitter, l.transaction_id, l.message_type, l.content_type
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
    $8::uuid[], $9::text[], $10::text[]
) WITH ORDINALITY AS l (
    message_id, queue, reason, detail, body, headers, submitter, transaction_id, message_type,
    content_type, position
), moment
ORDER BY l.message_id
ON CONFLICT (message_id) DO NOTHING
RETURNING reason;

-- name: list_dead_letters
-- A page, newest first, with the first kilobytes of the bodies.
SELECT
    id, message_id, queue, reason, detail, substring(body FROM 1 FOR 4096) AS body,
    octet_length(body) AS body_bytes, headers, submitter, transaction_id, message_type,
    content_type, first_seen_at, replayed_at, discarded_at
FROM dead_letters
WHERE
    ($1::text IS NULL OR reason = $1)
    AND ($2::text IS NULL OR submitter = $2)
    AND (
        $3::text IS NULL
        OR $3 = CASE
            WHEN replayed_at IS NOT NULL THEN 'replayed'
            WHEN discarded_at IS NOT NULL THEN 'discarded'
            ELSE 'open'
        END
    )
    AND ($4::uuid IS NULL OR id < $4)
ORDER BY id DESC
LIMIT $5;

-- name: list_dead_letter_ids
-- The same filter, oldest first: replays keep the order of arrival.
SELECT id
FROM dead_letters
WHERE
    ($1::text IS NULL OR reason = $1)
    AND ($2::text IS NULL OR submitter = $2)
    AND (
        $3::text IS NULL
        OR $3 = CASE
            WHEN replayed_at IS NOT NULL THEN 'replayed'
            WHEN discarded_at IS NOT NULL THEN 'discarded'
            ELSE 'open'
        END
    )
    AND ($4::uuid IS NULL OR id > $4)
ORDER BY id
LIMIT $5;

-- name: count_by_reason
-- The same filter, grouped.
SELECT reason, count(*) AS dead_letters
FROM dead_letters
WHERE
    ($1::text IS NULL OR reason = $1)
    AND ($2::text IS NULL OR submitter = $2)
    AND (
        $3::text IS NULL
        OR $3 = CASE
            WHEN replayed_at IS NOT NULL THEN 'replayed'
            WHEN discarded_at IS NOT NULL THEN 'discarded'
            ELSE 'open'
        END
    )
GROUP BY reason
ORDER BY reason;

-- name: read_dead_letter
-- One, with its body.
SELECT *, octet_length(body) AS body_bytes FROM dead_letters WHERE id = $1;

-- name: lock_dead_letter
-- One, with its body, so that two operators act on it one after the other.
SELECT *, octet_length(body) AS body_bytes FROM dead_letters WHERE id = $1 FOR UPDATE;

-- name: release_quarantined
-- A quarantined transaction is to be posted again.
WITH released AS (
    UPDATE transactions SET status = 'PENDING'
    WHERE id = $1 AND status = 'QUARANTINED'
    RETURNING id
)

DELETE FROM exceptional_transactions AS x
USING released
WHERE x.status = 'QUARANTINED' AND x.transaction_id = released.id;

-- name: read_pending
-- What of these is still to be posted.
SELECT id, type::text AS type, source_wallet_id, destination_wallet_id
FROM transactions
WHERE id = ANY ($1::uuid[]) AND status = 'PENDING';

-- name: insert_stale
-- The sweep may have passed these ids long ago: the worklist makes sure of their posting, should
-- the publish that follows this commit fail.
INSERT INTO stale_transactions (transaction_id, next_attempt_at)
SELECT w.id, clock_timestamp() + make_interval(secs => $2)
FROM unnest($1::uuid[]) AS w (id)
ON CONFLICT (transaction_id) DO NOTHING;

-- name: mark_replayed
-- The dead letter is done with.
UPDATE dead_letters SET replayed_at = clock_timestamp() WHERE id = $1;

-- name: mark_discarded
-- The dead letter is done with, and its message is given up.
UPDATE dead_letters SET discarded_at = clock_timestamp() WHERE id = $1;

-- name: fail_quarantined
-- Gives a quarantined transaction up, and owes the event.
WITH failed AS (
    UPDATE transactions
    SET
        status = 'FAILED',
        failure_code = 'discarded',
        failure_detail = $2,
        completed_at = clock_timestamp()
    WHERE id = $1 AND status = 'QUARANTINED'
    RETURNING id, completed_at
),

no_longer AS (
    DELETE FROM exceptional_transactions AS x
    USING failed
    WHERE x.status = 'QUARANTINED' AND x.transaction_id = failed.id
),

exceptional AS (
    INSERT INTO exceptional_transactions (status, transaction_id)
    SELECT 'FAILED', failed.id FROM failed
),

owed AS (
    INSERT INTO outbox (id, event_type, transaction_ids, created_at)
    SELECT uuid_v7(clock_us()), 'failed', ARRAY[failed.id], failed.completed_at FROM failed
)

SELECT (SELECT count(*) = 1 FROM failed) AS is_failed, pg_notify('ackledger_posted', '');

-- name: insert_audit
-- Who did what to which dead letter.
INSERT INTO audit_log (id, actor, action, subject, detail)
VALUES (uuid_v7(clock_us()), $1, $2, $3, $4::json);
