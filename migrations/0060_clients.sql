-- migrate:up

-- Upstream systems, by the names of their users at the broker: whose wallets they may move (`reach`),
-- and what each may ask for; null means no restriction. `per_transaction_max` and `daily_max`:
-- currency to minor units. A client that is disabled keeps its row.
CREATE TABLE IF NOT EXISTS clients (
    name text PRIMARY KEY,
    reach text NOT NULL DEFAULT 'own' CHECK (reach IN ('own', 'all')),
    allowed_types text[],
    allowed_currencies text[],
    allowed_owners text[],
    per_transaction_max jsonb,
    daily_max jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz
);
