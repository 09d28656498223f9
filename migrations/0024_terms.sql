-- migrate:up

-- What a transaction asks for beyond moving an amount from one wallet to another stands beside it,
-- in `transaction_terms`; `has_terms` says so, and is null for a plain move, whose row stays as lean
-- as it was. Nullable now: what is only known when it is posted (the amount of a capture of the
-- rest), and what does not apply (the amount of a journal).
ALTER TABLE transactions
-- squawk-ignore ban-drop-not-null
ALTER COLUMN source_wallet_id DROP NOT NULL,
-- squawk-ignore ban-drop-not-null
ALTER COLUMN destination_wallet_id DROP NOT NULL,
-- squawk-ignore ban-drop-not-null
ALTER COLUMN amount DROP NOT NULL,
-- squawk-ignore ban-drop-not-null
ALTER COLUMN currency DROP NOT NULL,
ADD COLUMN has_terms boolean;

-- `hold_id`: of a capture and a release. `expires_in_s`: of a hold. `is_final`: of a capture.
-- `is_forced`: a reversal that may overdraw. `batch_id`: of the members of an atomic batch.
-- `conditions`: as the client sent them, amounts as decimal texts in major units of the wallet.
CREATE TABLE transaction_terms (
    transaction_id uuid PRIMARY KEY,
    hold_id uuid,
    expires_in_s integer,
    is_final boolean,
    is_forced boolean,
    valid_until timestamptz,
    execute_at timestamptz,
    batch_id uuid,
    conditions json
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE INDEX transaction_terms_by_batch ON transaction_terms (batch_id, transaction_id)
WHERE batch_id IS NOT NULL;
CREATE INDEX transaction_terms_by_hold ON transaction_terms (hold_id, transaction_id)
WHERE hold_id IS NOT NULL;

-- The legs of a journal, and of the reversal of one. Of any other transaction there are two, and
-- they stand on its row. `sequence`: the entry that a leg became.
CREATE TABLE transaction_legs (
    transaction_id uuid NOT NULL,
    position integer NOT NULL,
    wallet_id uuid NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    is_external boolean NOT NULL,
    sequence bigint,
    PRIMARY KEY (transaction_id, position)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX transaction_legs_by_wallet ON transaction_legs (wallet_id, transaction_id);

CREATE TYPE hold_status AS ENUM ('OPEN', 'CAPTURED', 'RELEASED', 'EXPIRED');

-- A posted hold. `amount` = `captured` + `remaining` + what was freed. What is held of a wallet is
-- the sum of `remaining` over its open holds; one is open until posting or the reconciler has
-- written that it expired, and worth nothing from `expires_at` on all the same.
CREATE TABLE holds (
    transaction_id uuid PRIMARY KEY,
    wallet_id uuid NOT NULL,
    destination_wallet_id uuid,
    currency text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    captured bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
    remaining bigint NOT NULL CHECK (remaining >= 0),
    status hold_status NOT NULL DEFAULT 'OPEN',
    expires_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK (captured + remaining <= amount),
    CHECK ((status = 'OPEN') = (remaining > 0))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX holds_by_wallet ON holds (wallet_id, transaction_id);
CREATE INDEX holds_open_by_wallet ON holds (wallet_id, expires_at) WHERE status = 'OPEN';
CREATE INDEX holds_open_by_expiry ON holds (expires_at, transaction_id) WHERE status = 'OPEN';

-- SCHEDULED transactions, by the moment from which on they are PENDING.
CREATE TABLE scheduled_transactions (
    execute_at timestamptz NOT NULL,
    transaction_id uuid NOT NULL,
    PRIMARY KEY (execute_at, transaction_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The idempotency keys of cancellations, for ever.
CREATE TABLE cancellations (
    submitter text NOT NULL,
    idempotency_key text NOT NULL,
    transaction_id uuid NOT NULL,
    PRIMARY KEY (submitter, idempotency_key)
);

-- How far a forced reversal may have overdrawn a wallet beyond its limit: an upper bound, lowered
-- when the wallet is next written by a transaction with terms.
ALTER TABLE wallets ADD COLUMN forced_overdraft bigint NOT NULL DEFAULT 0;

-- The state that the commit left wallets in, for its events. Of an `outbox` row whose transactions
-- are plain: {"limits": {wallet id: [held, overdraft limit]}} of those wallets where one of them is
-- not 0; of any other {transaction id: [[wallet id, version, balance, held, available, currency], ...]}.
ALTER TABLE outbox ADD COLUMN wallets json;
ALTER TABLE refused_events ADD COLUMN wallets json;
