-- migrate:up

-- Events that are owed: one row a batch and type. Read with SKIP LOCKED, deleted once confirmed.
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    event_type text NOT NULL,
    transaction_ids uuid[] NOT NULL,
    created_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Messages that cannot be processed, filled from the broker's dead-letter queue. `message_id` makes
-- storing one twice harmless.
CREATE TABLE dead_letters (
    id uuid PRIMARY KEY,
    message_id text NOT NULL UNIQUE,
    queue text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    body bytea NOT NULL,
    headers json NOT NULL,
    submitter text,
    transaction_id uuid,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    replayed_at timestamptz,
    discarded_at timestamptz,
    CONSTRAINT dead_letters_one_end CHECK (replayed_at IS NULL OR discarded_at IS NULL)
);

CREATE INDEX dead_letters_by_transaction ON dead_letters (transaction_id)
WHERE transaction_id IS NOT NULL;

-- The reconciler's worklist, and how far its sweep of `transactions` came.
CREATE TABLE stale_transactions (
    transaction_id uuid PRIMARY KEY,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL
);

CREATE INDEX stale_transactions_by_due ON stale_transactions (next_attempt_at);

CREATE TABLE sweep_progress (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    swept_until uuid NOT NULL
);

INSERT INTO sweep_progress (swept_until) VALUES ('00000000-0000-0000-0000-000000000000');
