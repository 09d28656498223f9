-- migrate:up

-- The chain of seals. Each names the transactions that it covers, in the order in which they are
-- hashed; `digest` is the SHA-256 of their rows, of this row's figures and of the seal before
-- (docs/seals.md has every byte), and `signature` is made of it with a key that is not in this
-- database. `leaf_prefixes`: the first four bytes of each transaction's own digest, so that a change
-- can be told by its transaction; they prove nothing. Ids are random bits: compressing them is for
-- nothing.
CREATE TABLE seals (
    number bigint PRIMARY KEY CHECK (number >= 1),
    format integer NOT NULL,
    until timestamptz NOT NULL,
    transactions bigint NOT NULL CHECK (transactions >= 1),
    entries bigint NOT NULL,
    transaction_ids uuid[] NOT NULL,
    leaf_prefixes bytea NOT NULL,
    previous bytea NOT NULL,
    digest bytea NOT NULL,
    sealed_at timestamptz NOT NULL,
    key_id text,
    signature bytea,
    CONSTRAINT seals_signed_by_a_key CHECK ((key_id IS NULL) = (signature IS NULL))
);

ALTER TABLE seals ALTER COLUMN transaction_ids SET STORAGE EXTERNAL;
ALTER TABLE seals ALTER COLUMN leaf_prefixes SET STORAGE EXTERNAL;

CREATE TRIGGER seals_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON seals
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE ON seals FROM PUBLIC, CURRENT_USER;

-- The public keys that seals were signed with, to look up. `ackledger verify` trusts none of them: it
-- has a list of its own.
CREATE TABLE seal_keys (
    key_id text PRIMARY KEY,
    public_key bytea NOT NULL,
    first_used_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How far sealing has walked along the ids of the transactions; from where on it walks a second time,
-- after the database's clock was set back (`walked_before`: up to there ids may be sealed already);
-- how far it has looked through the list below; and since when there are seals at all.
CREATE TABLE seal_progress (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    walked_until uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    walked_before uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    polled_until uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO seal_progress DEFAULT VALUES;

-- Transactions that had not ended when the walk passed them: sealed once they have.
CREATE TABLE unsealed_transactions (
    transaction_id uuid PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
