-- migrate:up

CREATE TYPE user_role AS ENUM ('customer', 'operator', 'auditor', 'admin');
CREATE TYPE user_status AS ENUM ('UNCONFIRMED', 'ACTIVE', 'DISABLED', 'DELETED');

-- People. An address belongs to one of them at most; that of a deleted one is free again.
-- `password_hash` is null until the address is confirmed, and once the user is deleted.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL CHECK (email = lower(email)),
    name text,
    password_hash text,
    role user_role NOT NULL DEFAULT 'customer',
    status user_status NOT NULL DEFAULT 'UNCONFIRMED',
    is_mail_wanted boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT users_deleted_at_a_time CHECK ((status = 'DELETED') = (deleted_at IS NOT NULL)),
    CONSTRAINT users_active_with_a_password CHECK (
        status <> 'ACTIVE' OR (password_hash IS NOT NULL AND confirmed_at IS NOT NULL)
    )
);

CREATE UNIQUE INDEX users_by_email ON users (email) WHERE deleted_at IS NULL;

CREATE TYPE user_token_purpose AS ENUM ('confirm', 'reset');

-- What mails carry, known by its hash alone, good for one use. A token of a registration holds the
-- password and the name that were given with it: whoever registers a stranger's address must not
-- have chosen the password of the account that the stranger confirms by a mail of his own.
CREATE TABLE user_tokens (
    hash bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    purpose user_token_purpose NOT NULL,
    password_hash text,
    name text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT user_tokens_confirm_a_password CHECK (
        (purpose = 'confirm') = (password_hash IS NOT NULL)
    )
);

CREATE INDEX user_tokens_by_user ON user_tokens (user_id, purpose);
CREATE INDEX user_tokens_by_expiry ON user_tokens (expires_at);
