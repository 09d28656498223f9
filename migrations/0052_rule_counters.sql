-- migrate:up

-- What rules have counted: one row for each rule, measure and subject, by a key of these three, with
-- '|' between them. The measure is '' for transactions, else a currency for its minor units. A ring
-- of buckets: the first of `amounts`, with commas between them, is that of the bucket with the number
-- `bucket` (seconds since 1970 divided by the bucket's length), the next that of the one before, and
-- so on. A text, which processors read in a third of an array's time. Written in the database
-- transaction that posts what is counted.
CREATE TABLE rule_counters (
    key text COLLATE "C" PRIMARY KEY,
    bucket bigint NOT NULL,
    amounts text NOT NULL
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05
);

-- Which wallet has paid which, as far as rules have looked it up.
CREATE TABLE seen_destinations (
    source_wallet_id uuid NOT NULL,
    destination_wallet_id uuid NOT NULL,
    PRIMARY KEY (source_wallet_id, destination_wallet_id)
);
