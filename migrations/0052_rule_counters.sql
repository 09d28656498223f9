-- migrate:up

-- What rules have counted: one row for each rule, subject and measure ('' for transactions, else a
-- currency's minor units). A ring of buckets: `amounts[1]` is that of the bucket with the number
-- `bucket` (seconds since 1970 divided by the bucket's length), the next of the one before, and so
-- on. Written in the database transaction that posts what is counted.
CREATE TABLE rule_counters (
    rule_id uuid NOT NULL,
    subject text NOT NULL,
    measure text NOT NULL,
    bucket bigint NOT NULL,
    amounts bigint[] NOT NULL,
    PRIMARY KEY (rule_id, subject, measure)
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05
);

-- Which wallet has paid which, as far as rules have looked it up.
CREATE TABLE seen_destinations (
    source_wallet_id uuid NOT NULL,
    destination_wallet_id uuid NOT NULL,
    PRIMARY KEY (source_wallet_id, destination_wallet_id)
);
