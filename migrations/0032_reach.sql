-- migrate:up

-- Whose wallets and transactions a caller sees and moves: what is its own, or all.
CREATE TYPE reach AS ENUM ('own', 'all');

-- A wallet belongs to the submitter that made it (null: made by a release before this one) and, to a
-- person, by `owner_id`; whoever was granted it may use it too. The first two never change.
ALTER TABLE wallets ADD COLUMN created_by text;

CREATE TABLE wallet_grants (
    client text NOT NULL,
    wallet_id uuid NOT NULL,
    granted_by text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (client, wallet_id)
);

CREATE INDEX wallet_grants_by_wallet ON wallet_grants (wallet_id, client);

-- Keys that exist keep what they could do; new ones reach what is their client's unless they are
-- given more. `last_used_at` is written at most once a minute.
ALTER TABLE api_keys
ADD COLUMN reach reach NOT NULL DEFAULT 'all',
ADD COLUMN expires_at timestamptz,
ADD COLUMN last_used_at timestamptz;

ALTER TABLE api_keys ALTER COLUMN reach SET DEFAULT 'own';

-- Upstream systems, by their broker user. One that has no row reaches all, as before; null: no such
-- restriction. `per_transaction_max` and `daily_max` (a day of UTC): {currency: minor units}. A client
-- that is disabled keeps its row.
CREATE TABLE clients (
    name text PRIMARY KEY,
    reach reach NOT NULL DEFAULT 'own',
    allowed_types text[],
    allowed_currencies text[],
    allowed_owners text[],
    per_transaction_max jsonb,
    daily_max jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz
);
