-- name: find_person
-- Whom an id names, or an address that is in use.
SELECT id FROM users
WHERE CASE WHEN $1::uuid IS NOT NULL THEN id = $1 ELSE email = $2 AND deleted_at IS NULL END;

-- name: read_person
-- A person's account.
SELECT
    id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at, deleted_at
FROM users
WHERE id = $1;

-- name: lock_person
-- The same, to change it, until the database transaction ends.
SELECT id, email, status::text FROM users WHERE id = $1 FOR NO KEY UPDATE;

-- name: page_sessions
-- A person's sessions, ended ones too, oldest first.
SELECT id, created_at, last_used_at, expires_at, revoked_at, address, agent
FROM sessions
WHERE user_id = $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: page_logins
-- Attempts to log in to a person's account, oldest first.
SELECT id, at, address, agent, outcome::text
FROM login_log
WHERE user_id IS NOT NULL AND user_id = $1 AND (user_id, id) > ($1, $2)
ORDER BY user_id, id
LIMIT $3;

-- name: page_notifications
-- What a person was told, oldest first.
SELECT id, kind, at, body, read_at
FROM notifications
WHERE user_id = $1 AND (user_id, id) > ($1, $2)
ORDER BY user_id, id
LIMIT $3;

-- name: page_mails
-- Mails to a person's address that are still there. Their texts hold tokens, and are not read.
SELECT m.id, m.subject, m.created_at, m.sent_at
FROM mail_outbox AS m
INNER JOIN users AS u ON u.email = m.to_address
WHERE u.id = $1 AND m.id > $2
ORDER BY m.id
LIMIT $3;

-- name: page_audit
-- What was done to a person's account, and by whom, oldest first.
SELECT id, occurred_at, actor, action, detail
FROM audit_log
WHERE subject = 'user:' || $1::uuid::text AND (subject, id) > ('user:' || $1::uuid::text, $2)
ORDER BY subject, id
LIMIT $3;

-- name: page_wallets
-- A person's wallets, deleted ones too, oldest first.
SELECT
    id, owner_id, currency, kind, balance, held_now(id, held) AS held, overdraft_limit, status,
    version, metadata, created_at, updated_at, deleted_at
FROM wallets
WHERE owner_id = $1::uuid::text AND (owner_id, id) > ($1::uuid::text, $2)
ORDER BY owner_id, id
LIMIT $3;

-- name: page_entries
-- One wallet's entries, oldest first.
SELECT
    e.wallet_id, e.sequence, e.transaction_id, e.amount, e.balance_after, e.created_at,
    t.type, t.description, w.currency
FROM entries AS e
INNER JOIN transactions AS t ON t.id = e.transaction_id
INNER JOIN wallets AS w ON w.id = e.wallet_id
WHERE e.wallet_id = $1 AND e.sequence > $2
ORDER BY e.sequence
LIMIT $3;

-- name: page_submitted
-- Ids of what a person submitted, in the order of its keys.
SELECT id, idempotency_key
FROM transactions
WHERE submitter = 'user:' || $1::uuid::text
    AND (submitter, idempotency_key) > ('user:' || $1::uuid::text, $2)
ORDER BY submitter, idempotency_key
LIMIT $3;

-- name: read_transactions
-- Whole transactions by id.
SELECT * FROM transaction_views WHERE id = ANY ($1::uuid[]) ORDER BY id;

-- name: close_person
-- A locked account ends, whatever its state; nobody can log in to it any more.
UPDATE users
SET status = 'DELETED', deleted_at = coalesce(deleted_at, clock_timestamp()), password_hash = NULL
WHERE id = $1;

-- name: delete_sessions
-- A person's sessions with their refresh tokens, and what mails to the person are good for.
WITH sessions_gone AS (
    DELETE FROM sessions WHERE user_id = $1 RETURNING 1
), tokens_gone AS (
    DELETE FROM user_tokens WHERE user_id = $1
)
SELECT count(*) FROM sessions_gone;

-- name: erase_logins
-- Where some attempts to log in came from; that they were made stays.
WITH part AS (
    SELECT l.id
    FROM login_log AS l
    WHERE l.user_id IS NOT NULL AND l.user_id = $1
        AND (l.email IS NOT NULL OR l.address IS NOT NULL OR l.agent IS NOT NULL)
    LIMIT $2
)

UPDATE login_log AS l SET email = NULL, address = NULL, agent = NULL
FROM part AS s
WHERE l.id = s.id;

-- name: erase_logins_by_address
-- The same of attempts that were made under the address before or after it had an account. No index
-- finds them: the log is read once, whatever its length.
UPDATE login_log SET email = NULL, address = NULL, agent = NULL
WHERE user_id IS NULL AND email = $1;

-- name: delete_notifications
-- Some of what a person was told.
WITH part AS (
    SELECT n.id FROM notifications AS n WHERE n.user_id = $1 LIMIT $2
)

DELETE FROM notifications AS n USING part AS s WHERE n.id = s.id;

-- name: delete_mails
-- Mails to an address. No index finds them: mails are kept for a week.
DELETE FROM mail_outbox WHERE to_address = $1;

-- name: erase_wallet_texts
-- What was written of some wallets of a person, locked in id order as everywhere; the money stays.
WITH locked AS MATERIALIZED (
    SELECT w.id FROM wallets AS w
    WHERE w.owner_id = $1::uuid::text AND w.metadata IS NOT NULL
    ORDER BY w.id
    LIMIT $2
    FOR NO KEY UPDATE
), deep AS (
    DELETE FROM deep_metadata AS d USING locked AS l
    WHERE d.subject = 'wallet' AND d.subject_id = l.id
)

UPDATE wallets AS w SET metadata = NULL FROM locked AS l WHERE w.id = l.id;

-- name: erase_texts
-- What a person wrote of some transactions, locked in id order as posting does. The seals cover
-- neither text, so the books verify as before.
WITH locked AS MATERIALIZED (
    SELECT t.id
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
    ORDER BY t.id
    FOR NO KEY UPDATE OF t
), deep AS (
    DELETE FROM deep_metadata AS d USING locked AS l
    WHERE d.subject = 'transaction' AND d.subject_id = l.id
)

UPDATE transactions AS t SET description = NULL, metadata = NULL, request_id = NULL
FROM locked AS l
WHERE t.id = l.id
    AND (t.description IS NOT NULL OR t.metadata IS NOT NULL OR t.request_id IS NOT NULL);

-- name: erase_person
-- The last step: an account without name and address, and the trail of who erased it.
WITH erased AS (
    UPDATE users
    SET email = id::text || '@erased.invalid', name = NULL, is_mail_wanted = false
    WHERE id = $1
    RETURNING id
)

INSERT INTO audit_log (id, actor, action, subject, detail)
SELECT uuid_v7(clock_us()), $2, 'user.erased', 'user:' || e.id::text, $3::text::json
FROM erased AS e;
