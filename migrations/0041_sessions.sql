-- migrate:up

-- A session is a login and all the tokens that come from it.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    address text,
    agent text
);

CREATE INDEX sessions_by_user ON sessions (user_id, id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- Each refresh token is good for one use. Used ones stay as long as their session, so that a second
-- use is seen: somebody else has the token, and the session is revoked.
CREATE TABLE refresh_tokens (
    hash bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    issued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz
);

CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TYPE login_outcome AS ENUM (
    'succeeded', 'wrong_password', 'unknown_address', 'unconfirmed', 'disabled', 'token_reused'
);

-- Who tried to log in. Append-only, but for a person's data, which may have to be erased.
CREATE TABLE login_log (
    id uuid PRIMARY KEY,
    user_id uuid,
    email text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    address text,
    agent text,
    outcome login_outcome NOT NULL
);

CREATE INDEX login_log_by_user ON login_log (user_id, id) WHERE user_id IS NOT NULL;

CREATE FUNCTION refuse_change_but_erasure() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW IS DISTINCT FROM
        (OLD.id, OLD.user_id, NULL, OLD.at, NULL, NULL, OLD.outcome)::login_log THEN
        RAISE EXCEPTION 'of % only email, address and agent can be erased', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER login_log_erasure_only
BEFORE UPDATE ON login_log
FOR EACH ROW EXECUTE FUNCTION refuse_change_but_erasure();

CREATE TRIGGER login_log_append_only
BEFORE DELETE OR TRUNCATE ON login_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE ON login_log FROM PUBLIC, CURRENT_USER;
GRANT UPDATE (email, address, agent) ON login_log TO CURRENT_USER;
