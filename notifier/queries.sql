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
