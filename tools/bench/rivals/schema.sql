-- What every rival writes: the same books as Ackledger's, without its side tables.
CREATE TABLE rival_wallets (
    id uuid PRIMARY KEY,
    balance bigint NOT NULL,
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE rival_transactions (
    id uuid PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    source_wallet_id uuid NOT NULL,
    destination_wallet_id uuid NOT NULL,
    amount bigint NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz
) WITH (fillfactor = 50);

CREATE TABLE rival_entries (
    wallet_id uuid NOT NULL,
    sequence bigint NOT NULL,
    transaction_id uuid NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    PRIMARY KEY (wallet_id, sequence)
);
