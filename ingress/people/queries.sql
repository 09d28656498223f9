-- name: insert_user
-- A registered person, unless the address belongs to somebody.
INSERT INTO users (id, email) VALUES (uuid_v7(clock_us()), $1)
ON CONFLICT (email) WHERE deleted_at IS NULL DO NOTHING;

-- name: lock_user_by_email
-- Whoever has an address, until the database transaction ends.
SELECT id, email, status::text FROM users WHERE email = $1 AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: lock_user
-- A user, to change it, until the database transaction ends.
SELECT
    id, email, name, password_hash, role::text, status::text, is_mail_wanted, created_at,
    confirmed_at, deleted_at
FROM users
WHERE id = $1
FOR NO KEY UPDATE;

-- name: read_user
-- One user.
SELECT
    id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at, deleted_at
FROM users
WHERE id = $1;

-- name: read_users
-- Whole users by id.
SELECT
    id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at, deleted_at
FROM users
WHERE id = ANY ($1::uuid[]);

-- name: examine_users
-- A bounded window of all users, newest first; deleted ones are a match only where they are wanted.
WITH examined AS MATERIALIZED (
    SELECT u.id, u.role, u.status
    FROM users AS u
    WHERE u.id < $1
    ORDER BY u.id DESC
    LIMIT $2
)

SELECT
    e.id,
    ($3::text IS NULL OR e.role = $3::text::user_role)
    AND CASE
        WHEN $4::text IS NULL THEN e.status <> 'DELETED' ELSE e.status = $4::text::user_status
    END AS is_match
FROM examined AS e
ORDER BY e.id DESC;

-- name: examine_user_of_email
-- The same of the one user who has an address.
SELECT
    u.id,
    ($3::text IS NULL OR u.role = $3::text::user_role)
    AND ($4::text IS NULL OR u.status = $4::text::user_status) AS is_match
FROM users AS u
WHERE u.email = $5 AND u.deleted_at IS NULL AND u.id < $1
LIMIT $2;

-- name: read_credentials
-- What a login is decided by.
SELECT id, email, password_hash, status::text
FROM users
WHERE email = $1 AND deleted_at IS NULL;

-- name: read_own_credentials
-- The same of somebody who is logged in.
SELECT id, email, password_hash, status::text FROM users WHERE id = $1 AND status = 'ACTIVE';

-- name: insert_user_token
-- A token for a mail, unless as many were made for the user in the last hour as may be.
INSERT INTO user_tokens (hash, user_id, purpose, password_hash, name, expires_at)
SELECT
    $1, $2, $3::text::user_token_purpose, $4, $5, clock_timestamp() + make_interval(secs => $6)
WHERE $7 > (
    SELECT count(*)
    FROM (
        SELECT FROM user_tokens AS t
        WHERE t.user_id = $2 AND t.purpose = $3::text::user_token_purpose
            AND t.created_at > clock_timestamp() - interval '1 hour'
        LIMIT $7
    ) AS recent
)
RETURNING hash;

-- name: read_user_token
-- Whose a token is that can still be used.
SELECT t.user_id, t.password_hash, t.name, u.email
FROM user_tokens AS t
INNER JOIN users AS u ON u.id = t.user_id
WHERE t.hash = $1 AND t.purpose = $2::text::user_token_purpose
    AND t.used_at IS NULL AND t.expires_at > clock_timestamp();

-- name: spend_user_token
-- Uses a token; nothing is returned where somebody else was faster.
UPDATE user_tokens SET used_at = clock_timestamp()
WHERE hash = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING hash;

-- name: spend_user_tokens
-- Whatever mails to a user are still under way, they are good for nothing any more.
UPDATE user_tokens SET used_at = clock_timestamp()
WHERE user_id = $1 AND used_at IS NULL;

-- name: confirm_user
-- A registered person's address is their own.
UPDATE users
SET
    status = 'ACTIVE', password_hash = $2, name = coalesce($3, name),
    confirmed_at = clock_timestamp()
WHERE id = $1 AND status = 'UNCONFIRMED'
RETURNING
    id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at, deleted_at;

-- name: set_password
-- A locked user's new password; whoever could read the mail has the address.
UPDATE users
SET
    status = 'ACTIVE', password_hash = $2,
    confirmed_at = coalesce(confirmed_at, clock_timestamp())
WHERE id = $1;

-- name: rehash_password
-- The same password, hashed with today's parameters.
UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2;

-- name: change_profile
-- What users may change of their own account.
UPDATE users
SET
    name = CASE WHEN $2::boolean THEN $3 ELSE name END,
    is_mail_wanted = coalesce($4, is_mail_wanted)
WHERE id = $1 AND status = 'ACTIVE'
RETURNING
    id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at, deleted_at;

-- name: change_user
-- A locked user's role and status.
UPDATE users SET role = $2::text::user_role, status = $3::text::user_status
WHERE id = $1
RETURNING
    id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at, deleted_at;

-- name: delete_user
-- A locked user's account ends; its row stays, for what it did.
UPDATE users
SET status = 'DELETED', deleted_at = clock_timestamp(), password_hash = NULL
WHERE id = $1;

-- name: lock_owner_wallets
-- An owner's wallets, to close them. What they are like then is read by the next statement.
SELECT w.id
FROM wallets AS w
WHERE w.owner_id = $1 AND w.deleted_at IS NULL
ORDER BY w.owner_id, w.id
LIMIT $2
FOR NO KEY UPDATE;

-- name: count_filled_wallets
-- How many of some wallets hold money, owe some, or have some reserved.
SELECT count(*) FROM wallets WHERE id = ANY ($1::uuid[]) AND (balance <> 0 OR held <> 0);

-- name: count_frozen_wallets
-- How many of some wallets are frozen.
SELECT count(*) FROM wallets WHERE id = ANY ($1::uuid[]) AND status = 'FROZEN';

-- name: close_wallets
-- Closes locked wallets, and hides them from lists.
UPDATE wallets
SET
    status = 'CLOSED',
    deleted_at = greatest(clock_timestamp(), updated_at),
    updated_at = greatest(clock_timestamp(), updated_at)
WHERE id = ANY ($1::uuid[]);

-- name: insert_first_wallet
-- The wallet that a person begins with.
INSERT INTO wallets (id, owner_id, currency, metadata)
VALUES (uuid_v7(clock_us()), $1, $2, '{}');

-- name: insert_mail
-- A mail that is to be sent.
INSERT INTO mail_outbox (id, to_address, subject, text)
VALUES (uuid_v7(clock_us()), $1, $2, $3);

-- name: insert_login_failure
-- An attempt to log in that came to nothing.
INSERT INTO login_log (id, user_id, email, address, agent, outcome)
VALUES (uuid_v7(clock_us()), $1, $2, $3, $4, $5::text::login_outcome);

-- name: start_session
-- A login: the session, its first refresh token, and everywhere it is told of. The user's lock makes
-- a password that changes at this moment either refuse the login or end its session.
WITH account AS MATERIALIZED (
    SELECT u.id, u.email, u.role, u.is_mail_wanted
    FROM users AS u
    WHERE u.id = $1 AND u.password_hash = $2 AND u.status = 'ACTIVE'
    FOR SHARE
),

started AS (
    INSERT INTO sessions (id, user_id, expires_at, address, agent)
    SELECT uuid_v7(clock_us()), a.id, clock_timestamp() + make_interval(secs => $4), $5, $6
    FROM account AS a
    RETURNING id, user_id
),

issued AS (
    INSERT INTO refresh_tokens (hash, session_id) SELECT $3, s.id FROM started AS s
),

logged AS (
    INSERT INTO login_log (id, user_id, email, address, agent, outcome)
    SELECT uuid_v7(clock_us()), a.id, a.email, $5, $6, 'succeeded' FROM account AS a
),

notified AS (
    INSERT INTO notifications (id, user_id, kind, body)
    SELECT
        uuid_v7(clock_us()), s.user_id, 'new_login',
        jsonb_build_object('session_id', s.id, 'address', $5::text, 'agent', $6::text)
    FROM started AS s
),

mailed AS (
    INSERT INTO mail_outbox (id, to_address, subject, text)
    SELECT uuid_v7(clock_us()), a.email, $7, $8 FROM account AS a WHERE a.is_mail_wanted
)

SELECT s.id AS session_id, s.user_id, a.role::text
FROM started AS s
INNER JOIN account AS a ON a.id = s.user_id;

-- name: rotate_refresh_token
-- Exchanges a refresh token of a session that is valid. One that was used before revokes the session:
-- of two who send the same one at the same time, the second waits for the first one's lock, and then
-- reads that it was used.
WITH presented AS MATERIALIZED (
    SELECT t.session_id, t.used_at IS NULL AS is_fresh
    FROM refresh_tokens AS t
    WHERE t.hash = $1
    FOR NO KEY UPDATE
),

valid AS MATERIALIZED (
    SELECT s.id, s.user_id, u.email, u.role, p.is_fresh
    FROM presented AS p
    INNER JOIN sessions AS s ON s.id = p.session_id
    INNER JOIN users AS u ON u.id = s.user_id
    WHERE s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND u.status = 'ACTIVE'
),

spent AS (
    UPDATE refresh_tokens AS t SET used_at = clock_timestamp()
    FROM valid AS v
    WHERE t.hash = $1 AND v.is_fresh
),

issued AS (
    INSERT INTO refresh_tokens (hash, session_id) SELECT $2, v.id FROM valid AS v WHERE v.is_fresh
),

used AS (
    UPDATE sessions AS s
    SET
        last_used_at = CASE WHEN v.is_fresh THEN clock_timestamp() ELSE s.last_used_at END,
        revoked_at = CASE WHEN v.is_fresh THEN s.revoked_at ELSE clock_timestamp() END
    FROM valid AS v
    WHERE s.id = v.id
),

logged AS (
    INSERT INTO login_log (id, user_id, email, address, agent, outcome)
    SELECT uuid_v7(clock_us()), v.user_id, v.email, $3, $4, 'token_reused'
    FROM valid AS v
    WHERE NOT v.is_fresh
),

trail AS (
    INSERT INTO audit_log (id, actor, action, subject, request_id)
    SELECT
        uuid_v7(clock_us()), 'user:' || v.user_id::text, 'session.token_reused',
        'session:' || v.id::text, $5
    FROM valid AS v
    WHERE NOT v.is_fresh
)

SELECT v.id AS session_id, v.user_id, v.role::text, v.is_fresh FROM valid AS v;

-- name: read_sessions
-- Of the sessions that access tokens name, those that are valid; many callers share one query.
SELECT s.id, s.user_id, u.role::text
FROM sessions AS s
INNER JOIN users AS u ON u.id = s.user_id
WHERE s.id = ANY ($1::uuid[]) AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp()
    AND u.status = 'ACTIVE';

-- name: list_sessions
-- A user's valid sessions, newest first.
SELECT id, created_at, last_used_at, expires_at, address, agent
FROM sessions
WHERE user_id = $1 AND revoked_at IS NULL AND (user_id, id) < ($1, $2)
    AND expires_at > clock_timestamp()
ORDER BY user_id DESC, id DESC
LIMIT $3;

-- name: revoke_session
-- Ends a session of a user's own; again, it changes nothing.
UPDATE sessions SET revoked_at = coalesce(revoked_at, clock_timestamp())
WHERE id = $1 AND user_id = $2
RETURNING id;

-- name: revoke_sessions
-- Ends a user's sessions, but for one (or none).
UPDATE sessions SET revoked_at = clock_timestamp()
WHERE user_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $2;

-- name: list_logins
-- Attempts to log in to a user's account, newest first.
SELECT id, at, address, agent, outcome::text
FROM login_log
WHERE user_id IS NOT NULL AND user_id = $1 AND (user_id, id) < ($1, $2)
ORDER BY user_id DESC, id DESC
LIMIT $3;

-- name: list_notifications
-- What a user was told, newest first.
SELECT id, kind, at, body, read_at
FROM notifications
WHERE user_id = $1 AND (user_id, id) < ($1, $2)
ORDER BY user_id DESC, id DESC
LIMIT $3;

-- name: mark_notification_read
-- The first time counts.
UPDATE notifications SET read_at = coalesce(read_at, clock_timestamp())
WHERE id = $1 AND user_id = $2
RETURNING id;

-- name: purge_sessions
-- Sessions that were over long ago, with their refresh tokens; at most so many.
WITH old AS (
    SELECT id FROM sessions
    WHERE expires_at < clock_timestamp() - make_interval(secs => $1)
    ORDER BY expires_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)

DELETE FROM sessions AS s USING old WHERE s.id = old.id;

-- name: purge_user_tokens
-- Tokens of mails that were over long ago; at most so many.
WITH old AS (
    SELECT hash FROM user_tokens
    WHERE expires_at < clock_timestamp() - make_interval(secs => $1)
    ORDER BY expires_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)

DELETE FROM user_tokens AS t USING old WHERE t.hash = old.hash;
