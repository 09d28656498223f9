-- migrate:up

-- Bytes 0-5: milliseconds; 6-7: version 7 and 12 bits of the millisecond's fraction; 8-9: variant
-- and the position inside a group (so that ids keep the accepted order); 10-15: random.
-- The caller reads the clock once for a group: `at_us` is microseconds since 1970.
CREATE FUNCTION uuid_v7(at_us bigint, group_position integer DEFAULT 0) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    int8send(
        ((at_us / 1000) << 16) | 28672 | ((at_us % 1000) * 4096 / 1000)
    )
    || int2send(((32768 | (group_position & 16383)) - 65536)::smallint)
    || substring(uuid_send(gen_random_uuid()) FROM 11 FOR 6),
    'hex'
)::uuid;

CREATE FUNCTION clock_us() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint;

CREATE TYPE wallet_kind AS ENUM ('customer', 'external');
CREATE TYPE wallet_status AS ENUM ('ACTIVE', 'FROZEN', 'CLOSED');

-- Amounts are minor units of the currency. `version` counts the wallet's entries.
CREATE TABLE wallets (
    id uuid PRIMARY KEY,
    owner_id text,
    currency text NOT NULL,
    kind wallet_kind NOT NULL DEFAULT 'customer',
    balance bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    overdraft_limit bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit >= 0),
    status wallet_status NOT NULL DEFAULT 'ACTIVE',
    version bigint NOT NULL DEFAULT 0,
    metadata json,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT wallets_available_not_negative CHECK (
        -- In this form nothing leaves 64 bits, however large the limit is.
        kind = 'external' OR balance - held >= -overdraft_limit
    )
) WITH (
    -- Room on each page for the next version of its rows: balance updates stay HOT.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX wallets_by_owner ON wallets (owner_id, id) WHERE owner_id IS NOT NULL;

-- The idempotency keys of wallet creations, for ever.
CREATE TABLE wallet_requests (
    submitter text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint bytea NOT NULL,
    wallet_id uuid NOT NULL,
    PRIMARY KEY (submitter, idempotency_key)
);
