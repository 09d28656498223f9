-- migrate:up

-- Where events are sent. Whose it is says which events it gets: `submitter` and, of a person,
-- `owner_id`, with the reach that its maker had.
CREATE TABLE webhooks (
    id uuid PRIMARY KEY,
    submitter text NOT NULL,
    owner_id text,
    reach reach NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL,
    wallet_ids uuid[],
    status text NOT NULL,
    failing_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    CONSTRAINT webhooks_status CHECK (status IN ('ACTIVE', 'DISABLED'))
);

CREATE INDEX webhooks_by_submitter ON webhooks (submitter, id) WHERE deleted_at IS NULL;

-- What deliveries are signed with. Apart, so that only the notifier reads it; whoever makes one may
-- only write it.
CREATE TABLE webhook_secrets (
    webhook_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    secret text NOT NULL,
    valid_until timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (webhook_id, created_at)
);

-- One event for one webhook, with exactly the bytes that are sent and signed. FAILED: given up, or
-- the webhook was disabled when the event came. `retries` are those of `attempts` since somebody last
-- asked for it to be sent again.
CREATE TABLE webhook_deliveries (
    id uuid PRIMARY KEY,
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    body text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    retries integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    UNIQUE (webhook_id, event_id),
    CONSTRAINT webhook_deliveries_status CHECK (status IN ('PENDING', 'DELIVERED', 'FAILED'))
) WITH (fillfactor = 80);

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at)
WHERE status = 'PENDING';
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (webhook_id, id)
WHERE status = 'FAILED';
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, id);

-- Each try: what came back, or why nothing did.
CREATE TABLE webhook_attempts (
    delivery_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamptz NOT NULL,
    response_status integer,
    error text,
    seconds real NOT NULL,
    PRIMARY KEY (delivery_id, number)
);

-- A delivery's last tries as a JSON array of text, in their order; null where there are none.
CREATE FUNCTION webhook_tries(delivery uuid) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT json_agg(
        json_build_object(
            'number', t.number,
            'at', to_char(t.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'response_status', t.response_status,
            'error', t.error,
            'seconds', t.seconds
        ) ORDER BY t.number
    )::text
    FROM (
        SELECT a.number, a.at, a.response_status, a.error, a.seconds
        FROM webhook_attempts AS a
        WHERE a.delivery_id = delivery
        ORDER BY a.number DESC
        LIMIT 100
    ) AS t
$$;

-- How far the log of events was read for webhooks, and who reads it, until when. Without a position
-- it is read from the time of the oldest webhook on.
CREATE TABLE webhook_progress (
    is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
    log_offset bigint,
    body_check bigint,
    reader uuid,
    read_until timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO webhook_progress DEFAULT VALUES;
