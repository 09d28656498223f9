-- name: examine_newest
-- The next rows behind an id, newest first, each with whether it passes the filter: a filter that
-- few pass must not walk the table in one request.
SELECT
    id,
    ($3::text IS NULL OR reason = $3)
    AND ($4::text IS NULL OR submitter = $4)
    AND ($5::text IS NULL OR dead_letter_state(replayed_at, discarded_at) = $5)
    AND (
        $6::text IS NULL
        OR coalesce(fingerprint, dead_letter_fingerprint(reason, detail)) = $6
    )
    AND ($7::timestamptz IS NULL OR first_seen_at <= $7) AS is_match
FROM dead_letters
WHERE id < $1
ORDER BY id DESC
LIMIT $2;

-- name: examine_of_transaction
-- The same of those that name one transaction, by their own index: few.
WITH named AS MATERIALIZED (
    SELECT
        d.id, d.reason, d.submitter, d.replayed_at, d.discarded_at, d.fingerprint, d.detail,
        d.first_seen_at
    FROM dead_letters AS d
    WHERE d.transaction_id = $8::uuid
)

SELECT
    n.id,
    ($3::text IS NULL OR n.reason = $3)
    AND ($4::text IS NULL OR n.submitter = $4)
    AND ($5::text IS NULL OR dead_letter_state(n.replayed_at, n.discarded_at) = $5)
    AND (
        $6::text IS NULL
        OR coalesce(n.fingerprint, dead_letter_fingerprint(n.reason, n.detail)) = $6
    )
    AND ($7::timestamptz IS NULL OR n.first_seen_at <= $7) AS is_match
FROM named AS n
WHERE n.id < $1
ORDER BY n.id DESC
LIMIT $2;

-- name: examine_oldest
-- The same, oldest first: replays keep the order of arrival.
SELECT
    id,
    ($3::text IS NULL OR reason = $3)
    AND ($4::text IS NULL OR submitter = $4)
    AND ($5::text IS NULL OR dead_letter_state(replayed_at, discarded_at) = $5)
    AND (
        $6::text IS NULL
        OR coalesce(fingerprint, dead_letter_fingerprint(reason, detail)) = $6
    )
    AND ($7::timestamptz IS NULL OR first_seen_at <= $7) AS is_match
FROM dead_letters
WHERE id > $1
ORDER BY id
LIMIT $2;

-- name: count_by_reason
-- The same filter, grouped, over the newest so many.
SELECT
    n.reason,
    count(*) FILTER (WHERE n.is_match) AS dead_letters,
    count(*) AS examined
FROM (
    SELECT
        reason,
        ($2::text IS NULL OR reason = $2)
        AND ($3::text IS NULL OR submitter = $3)
        AND ($4::text IS NULL OR dead_letter_state(replayed_at, discarded_at) = $4)
        AND (
            $5::text IS NULL
            OR coalesce(fingerprint, dead_letter_fingerprint(reason, detail)) = $5
        )
        AND ($6::timestamptz IS NULL OR first_seen_at <= $6) AS is_match
    FROM dead_letters
    ORDER BY id DESC
    LIMIT $1
) AS n
GROUP BY n.reason
ORDER BY n.reason;

-- name: group_dead_letters
-- The same filter over the newest so many, grouped by what they say, with how many came in each of
-- the last $7 hours (0 hours ago: the newest); those before are $7 hours ago.
SELECT
    n.reason,
    n.fingerprint,
    n.hours_ago,
    count(*) FILTER (WHERE n.is_match) AS dead_letters,
    count(*) AS examined,
    max(n.detail) FILTER (WHERE n.is_match) AS detail,
    min(n.first_seen_at) FILTER (WHERE n.is_match) AS first_seen_at,
    max(n.first_seen_at) FILTER (WHERE n.is_match) AS last_seen_at
FROM (
    SELECT
        reason,
        detail,
        first_seen_at,
        coalesce(fingerprint, dead_letter_fingerprint(reason, detail)) AS fingerprint,
        least(
            greatest(floor(extract(EPOCH FROM clock_timestamp() - first_seen_at) / 3600), 0), $7::integer
        )::integer AS hours_ago,
        ($2::text IS NULL OR reason = $2)
        AND ($3::text IS NULL OR submitter = $3)
        AND ($4::text IS NULL OR dead_letter_state(replayed_at, discarded_at) = $4)
        AND (
            $5::text IS NULL
            OR coalesce(fingerprint, dead_letter_fingerprint(reason, detail)) = $5
        )
        AND ($6::timestamptz IS NULL OR first_seen_at <= $6) AS is_match
    FROM dead_letters
    ORDER BY id DESC
    LIMIT $1
) AS n
GROUP BY n.reason, n.fingerprint, n.hours_ago;

-- name: read_dead_letters
-- Some of them, newest first, with so much of their bodies.
SELECT
    id, message_id, queue, reason, detail, substring(body FROM 1 FOR $2) AS body,
    octet_length(body) AS body_bytes, headers, submitter, transaction_id, message_type,
    content_type, first_seen_at, replayed_at, discarded_at,
    coalesce(fingerprint, dead_letter_fingerprint(reason, detail)) AS fingerprint
FROM dead_letters
WHERE id = ANY ($1::uuid[])
ORDER BY id DESC;

-- name: read_body
-- The whole body of one.
SELECT body FROM dead_letters WHERE id = $1;

-- name: lock_dead_letter
-- One, with so much of its body, so that two operators act on it one after the other.
SELECT
    id, message_id, queue, reason, detail, substring(body FROM 1 FOR $2) AS body,
    octet_length(body) AS body_bytes, headers, submitter, transaction_id, message_type,
    content_type, first_seen_at, replayed_at, discarded_at,
    coalesce(fingerprint, dead_letter_fingerprint(reason, detail)) AS fingerprint
FROM dead_letters
WHERE id = $1
FOR UPDATE;

-- name: record_requested
-- A replayed request of upstream becomes PENDING rows, by the same function as a new one.
SELECT request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at
FROM record_transactions(
    new_channel => 'amqp',
    submitters => $1,
    keys => $2,
    fingerprints => $3,
    types => $4,
    sources => $5,
    destinations => $6,
    amounts => $7,
    currencies => $8,
    descriptions => $9,
    metadatas => $10,
    request_ids => $11,
    traceparents => $12
);

-- name: record_requested_with_terms
-- The same for requests of which some are more than plain moves.
SELECT request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at
FROM record_transactions_with_terms(
    new_channel => 'amqp',
    submitters => $1,
    keys => $2,
    fingerprints => $3,
    types => $4,
    sources => $5,
    destinations => $6,
    amounts => $7,
    currencies => $8,
    descriptions => $9,
    metadatas => $10,
    request_ids => $11,
    traceparents => $12,
    terms => $13
);

-- name: read_transactions
-- Whole transactions, for a result.
SELECT * FROM transaction_views WHERE id = ANY ($1::uuid[]);

-- name: release_quarantined
-- A quarantined transaction is to be posted again, with all of its atomic batch.
WITH locked AS MATERIALIZED (
    SELECT t.id FROM transactions AS t
    WHERE
        t.status = 'QUARANTINED'
        AND t.id IN (
            SELECT $1::uuid
            UNION ALL
            SELECT other.transaction_id
            FROM transaction_terms AS own
            INNER JOIN transaction_terms AS other ON other.batch_id = own.batch_id
            WHERE own.transaction_id = $1
        )
    ORDER BY t.id
    FOR NO KEY UPDATE OF t
),

released AS (
    UPDATE transactions AS t SET status = 'PENDING'
    FROM locked
    WHERE t.id = locked.id
    RETURNING t.id
)

DELETE FROM exceptional_transactions AS x
USING released
WHERE x.status = 'QUARANTINED' AND x.transaction_id = released.id;

-- name: mark_replayed
-- The dead letter is done with.
UPDATE dead_letters SET replayed_at = clock_timestamp() WHERE id = $1;

-- name: mark_discarded
-- The dead letter is done with, and its message is given up.
UPDATE dead_letters SET discarded_at = clock_timestamp() WHERE id = $1;

-- name: fail_quarantined
-- Gives a quarantined transaction up, with all of its atomic batch, and owes the events. No row if
-- it is not QUARANTINED. The others of its batch fail for what became of it: code $3, detail $4.
WITH locked AS MATERIALIZED (
    SELECT t.id FROM transactions AS t
    WHERE
        t.status = 'QUARANTINED'
        AND t.id IN (
            SELECT $1::uuid
            UNION ALL
            SELECT other.transaction_id
            FROM transaction_terms AS own
            INNER JOIN transaction_terms AS other ON other.batch_id = own.batch_id
            WHERE own.transaction_id = $1
        )
    ORDER BY t.id
    FOR NO KEY UPDATE OF t
)

SELECT
    unnest(
        end_transactions(
            moment => clock_timestamp(),
            ids => named.ids,
            from_status => 'QUARANTINED',
            to_status => 'FAILED',
            codes => named.codes,
            details => named.details
        )
    ) AS id
FROM (
    SELECT
        array_agg(l.id ORDER BY l.id) AS ids,
        array_agg(CASE WHEN l.id = $1 THEN 'discarded' ELSE $3 END ORDER BY l.id) AS codes,
        array_agg(CASE WHEN l.id = $1 THEN $2 ELSE $4 END ORDER BY l.id) AS details
    FROM locked AS l
) AS named
WHERE $1 = ANY (named.ids);

-- name: owe_event_again
-- An event that was set aside is owed anew; `origin_id` keeps its event id.
INSERT INTO outbox (id, event_type, transaction_ids, created_at, origin_id, wallets)
VALUES (uuid_v7(clock_us()), $2, ARRAY[$3::uuid], $4, $1, $5::text::json);

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
