-- name: claim_mails
-- Mails that are due, taken for a while: whoever is killed with them in hand leaves them to be due
-- again. Other notifiers pass over what is being taken.
WITH due AS MATERIALIZED (
    SELECT m.id
    FROM mail_outbox AS m
    WHERE m.sent_at IS NULL AND m.next_attempt_at <= clock_timestamp()
    ORDER BY m.next_attempt_at, m.id
    LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE mail_outbox AS m
SET attempts = m.attempts + 1, next_attempt_at = clock_timestamp() + make_interval(secs => $2)
FROM due AS d
WHERE m.id = d.id
RETURNING m.id, m.to_address, m.subject, m.text, m.created_at, m.attempts;

-- name: end_mail
-- A mail that the server has taken.
UPDATE mail_outbox SET sent_at = clock_timestamp() WHERE id = $1;

-- name: put_mail_off
-- A mail that was not sent is due again after a while.
UPDATE mail_outbox SET next_attempt_at = clock_timestamp() + make_interval(secs => $2)
WHERE id = $1 AND sent_at IS NULL;

-- name: give_mail_up
-- A mail that nobody tries any more.
UPDATE mail_outbox SET given_up_at = clock_timestamp(), next_attempt_at = 'infinity'
WHERE id = $1 AND sent_at IS NULL;

-- name: release_mails
-- Mails that were taken and not tried: due at once, as if nobody had taken them.
UPDATE mail_outbox
SET attempts = greatest(attempts - 1, 0), next_attempt_at = clock_timestamp()
WHERE id = ANY ($1::uuid[]) AND sent_at IS NULL;

-- name: count_waiting_mails
-- How many mails are to be sent, counted up to a bound, and how old the oldest of those is.
SELECT
    count(*) AS mails,
    coalesce(extract(epoch FROM clock_timestamp() - min(w.created_at)), 0)::float8 AS oldest_s
FROM (
    SELECT m.created_at
    FROM mail_outbox AS m
    WHERE m.sent_at IS NULL AND m.next_attempt_at < 'infinity'
    ORDER BY m.next_attempt_at, m.id
    LIMIT $1
) AS w;

-- name: purge_mails
-- Deletes mails that were written long ago, sent or given up: by then they are one or the other. Only
-- the oldest few are looked at.
WITH oldest AS (
    SELECT m.id, m.created_at, m.sent_at, m.given_up_at
    FROM mail_outbox AS m
    ORDER BY m.id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)

DELETE FROM mail_outbox AS m
USING oldest AS o
WHERE m.id = o.id AND o.created_at < clock_timestamp() - make_interval(secs => $1)
    AND (o.sent_at IS NOT NULL OR o.given_up_at IS NOT NULL);

-- name: find_told_owners
-- Which of some wallets belong to people who have an account. Other owners' names are any text.
SELECT w.id AS wallet_id, u.id AS user_id, w.currency
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id
INNER JOIN users AS u ON u.id = CASE
    WHEN w.owner_id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN w.owner_id::uuid
END
WHERE u.status = 'ACTIVE';

-- name: insert_notifications
-- Tells people of their money, and by mail if they wish. What was told before is told by its id. The
-- lock keeps an account from being deleted, and erased, before this is committed.
WITH told AS MATERIALIZED (
    SELECT t.id, t.user_id, t.kind, t.at, t.body, t.subject, t.text, u.email, u.is_mail_wanted
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[]
    ) AS t (id, user_id, kind, at, body, subject, text)
    INNER JOIN users AS u ON u.id = t.user_id
    WHERE u.status = 'ACTIVE'
    FOR SHARE OF u
),

noted AS (
    INSERT INTO notifications (id, user_id, kind, at, body)
    SELECT t.id, t.user_id, t.kind, t.at, t.body::jsonb FROM told AS t
    ORDER BY t.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, kind
),

mailed AS (
    INSERT INTO mail_outbox (id, to_address, subject, text)
    SELECT n.id, t.email, t.subject, t.text
    FROM noted AS n
    INNER JOIN told AS t ON t.id = n.id
    WHERE t.is_mail_wanted
)

SELECT n.kind, count(*) AS notifications FROM noted AS n GROUP BY n.kind;

-- name: claim_reading
-- Takes the turn of reading the log of events for webhooks, where there are any and nobody else has
-- it: how far it was read, or since when it is to be read.
WITH oldest AS (
    SELECT min(w.created_at) AS since FROM webhooks AS w WHERE w.deleted_at IS NULL
)

UPDATE webhook_progress AS p
SET reader = $1, read_until = clock_timestamp() + make_interval(secs => $2)
FROM oldest AS o
WHERE o.since IS NOT NULL AND (p.read_until < clock_timestamp() OR p.reader = $1)
RETURNING p.log_offset, coalesce(p.log_number, 0) AS log_number, p.body_check, o.since;

-- name: list_subscriptions
-- Every webhook that is not deleted.
SELECT
    w.id, w.event_types, w.wallet_ids, w.status, w.created_at
FROM webhooks AS w
WHERE w.deleted_at IS NULL
ORDER BY w.id
LIMIT $1;

-- name: list_webhook_rights
-- What the owners of some webhooks, or of all, may do now: a row for each right.
SELECT r.webhook_id, r.submitter, r.owner_id, r.made_with, r.role, r.scopes, r.reach
FROM webhook_rights AS r
WHERE $1::uuid[] IS NULL OR r.webhook_id = ANY ($1);

-- name: note_reading
-- How far the log was read, and for how long the turn is kept. Where there is no webhook any more ($6)
-- both are given up: the next one begins at its own time. Nothing where somebody else has the turn.
UPDATE webhook_progress AS p
SET
    log_offset = CASE WHEN $6 THEN coalesce($3::bigint, p.log_offset) END,
    log_number = CASE WHEN $6 THEN coalesce($4::integer, p.log_number) END,
    body_check = CASE WHEN $6 THEN coalesce($5::bigint, p.body_check) END,
    read_until = CASE
        WHEN $6 THEN clock_timestamp() + make_interval(secs => $2) ELSE '-infinity'
    END
WHERE p.reader = $1
RETURNING true;

-- name: insert_deliveries
-- Events for webhooks, each once. Those of disabled ones are kept as failed, for `recover`.
INSERT INTO webhook_deliveries (id, webhook_id, event_id, event_type, body, status)
SELECT
    uuid_v7(clock_us(), (n.position % 16000)::integer), n.webhook_id, n.event_id, n.event_type,
    n.body, n.status
FROM
    unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
    WITH ORDINALITY AS n (webhook_id, event_id, event_type, body, status, position)
ORDER BY n.webhook_id, n.event_id
ON CONFLICT (webhook_id, event_id) DO NOTHING;

-- name: claim_deliveries
-- Deliveries that are due, a few of each webhook ($3) beside those in hand ($1, $2), taken for a
-- while: whoever is killed with them leaves them to be due again. With each the span that its
-- transaction names, where anybody wants it ($6): an event's body has the transaction's id.
WITH free AS (
    SELECT w.id, w.url, $3::integer - coalesce(b.count, 0) AS places
    FROM webhooks AS w
    LEFT JOIN unnest($1::uuid[], $2::integer[]) AS b (id, count) ON b.id = w.id
    WHERE w.status = 'ACTIVE' AND w.deleted_at IS NULL
),

due AS MATERIALIZED (
    SELECT d.id, f.url
    FROM free AS f
    CROSS JOIN LATERAL (
        SELECT e.id
        FROM webhook_deliveries AS e
        WHERE
            e.webhook_id = f.id AND e.status = 'PENDING'
            AND e.next_attempt_at <= clock_timestamp()
        ORDER BY e.next_attempt_at
        LIMIT greatest(f.places, 0)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS d
    LIMIT $4
)

UPDATE webhook_deliveries AS d
SET
    attempts = d.attempts + 1,
    retries = d.retries + 1,
    next_attempt_at = clock_timestamp() + make_interval(secs => $5)
FROM due
WHERE d.id = due.id
RETURNING
    d.id, d.webhook_id, d.event_id, d.body, d.attempts, d.retries, due.url,
    ARRAY(
        SELECT s.secret
        FROM webhook_secrets AS s
        WHERE s.webhook_id = d.webhook_id AND s.valid_until > clock_timestamp()
        ORDER BY s.created_at DESC
        LIMIT 2
    ) AS secrets,
    CASE
        WHEN $6::boolean
            THEN (SELECT t.traceparent FROM transactions AS t WHERE t.id = (d.body::json ->> 'id')::uuid)
    END AS traceparent;

-- name: end_attempt
-- What came of an attempt: taken ($7), due again after $8 seconds, or given up. Whether the webhook is
-- to be disabled, since it has taken nothing for $9 seconds.
WITH noted AS (
    INSERT INTO webhook_attempts (delivery_id, number, at, response_status, error, seconds)
    VALUES ($1, $3, clock_timestamp(), $4, $5, $6)
    ON CONFLICT (delivery_id, number) DO NOTHING
),

ended AS (
    UPDATE webhook_deliveries AS d
    SET
        status = CASE
            WHEN $7::boolean THEN 'DELIVERED' WHEN $8::float8 IS NULL THEN 'FAILED' ELSE 'PENDING'
        END,
        next_attempt_at = clock_timestamp() + make_interval(secs => coalesce($8::float8, 0)),
        delivered_at = CASE WHEN $7 THEN clock_timestamp() ELSE d.delivered_at END
    WHERE d.id = $1 AND d.attempts = $3
),

judged AS (
    UPDATE webhooks AS w
    SET
        failing_since = CASE WHEN $7 THEN NULL ELSE coalesce(w.failing_since, clock_timestamp()) END
    WHERE w.id = $2 AND $7 = (w.failing_since IS NOT NULL)
)

SELECT NOT $7 AND w.failing_since < clock_timestamp() - make_interval(secs => $9)
FROM webhooks AS w
WHERE w.id = $2;

-- name: give_up_deliveries
-- Deliveries in hand that must not be made, each with the number of its attempt: that one is written
-- down with the reason ($3). It says nothing of the receiver.
WITH refused AS (
    SELECT r.id, r.number FROM unnest($1::uuid[], $2::integer[]) AS r (id, number)
),

noted AS (
    INSERT INTO webhook_attempts (delivery_id, number, at, response_status, error, seconds)
    SELECT r.id, r.number, clock_timestamp(), NULL, $3, 0 FROM refused AS r
    ON CONFLICT (delivery_id, number) DO NOTHING
)

UPDATE webhook_deliveries AS d
SET status = 'FAILED', next_attempt_at = clock_timestamp()
FROM refused AS r
WHERE d.id = r.id AND d.attempts = r.number;

-- name: disable_webhook
-- Nothing is sent any more. A person is told by mail. True where it was active.
WITH disabled AS (
    UPDATE webhooks
    SET status = 'DISABLED', updated_at = clock_timestamp()
    WHERE id = $1 AND status = 'ACTIVE'
    RETURNING id, url, owner_id
),

mailed AS (
    INSERT INTO mail_outbox (id, to_address, subject, text)
    SELECT
        uuid_v7(clock_us(), 0), u.email, 'A webhook was disabled',
        format(E'Nothing is sent to %s any more: %s.\n', d.url, $2::text)
    FROM disabled AS d
    INNER JOIN users AS u ON u.id = CASE
        WHEN d.owner_id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN d.owner_id::uuid
    END
    WHERE u.status = 'ACTIVE'
)

SELECT EXISTS (SELECT FROM disabled);

-- name: count_due_deliveries
-- How many deliveries are to be made, counted up to a bound, and how many webhooks take none.
SELECT
    (
        SELECT count(*) FROM (
            SELECT FROM webhook_deliveries AS d WHERE d.status = 'PENDING' LIMIT $1
        ) AS waiting
    ) AS deliveries,
    (
        SELECT count(*) FROM webhooks AS w
        WHERE w.failing_since IS NOT NULL AND w.deleted_at IS NULL
    ) AS failing;

-- name: purge_deliveries
-- Deletes deliveries that were written long ago, with their attempts. Only the oldest few are looked
-- at.
WITH oldest AS (
    SELECT d.id, d.created_at
    FROM webhook_deliveries AS d
    ORDER BY d.id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),

gone AS (
    DELETE FROM webhook_deliveries AS d
    USING oldest AS o
    WHERE d.id = o.id AND o.created_at < clock_timestamp() - make_interval(secs => $1)
    RETURNING d.id
),

forgotten AS (
    DELETE FROM webhook_attempts AS a USING gone AS g WHERE a.delivery_id = g.id
)

SELECT FROM gone;
