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
