-- migrate:up

-- Clients with limits, where no migration before has made the table: the most that one transaction,
-- and all of a day (UTC), may move, by currency: {"EUR": 100000}, in minor units; null is no limit.
CREATE TABLE IF NOT EXISTS clients (
    name text PRIMARY KEY,
    reach text NOT NULL DEFAULT 'all',
    allowed_types text[],
    allowed_currencies text[],
    allowed_owners text[],
    per_transaction_max jsonb,
    daily_max jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz
);
