-- migrate:up

-- Mails to be sent, written in the commit of what they tell. Texts may hold tokens that are good for
-- one use.
CREATE TABLE mail_outbox (
    id uuid PRIMARY KEY,
    to_address text NOT NULL,
    subject text NOT NULL,
    text text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX mail_outbox_unsent ON mail_outbox (next_attempt_at, id) WHERE sent_at IS NULL;

-- What a user is told, in the service itself.
CREATE TABLE notifications (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    kind text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    body jsonb NOT NULL DEFAULT '{}',
    read_at timestamptz
);

CREATE INDEX notifications_by_user ON notifications (user_id, id);
