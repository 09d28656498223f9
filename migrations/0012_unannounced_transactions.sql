-- migrate:up

-- Transactions that were accepted (202) without the broker's confirm of their announcement. The mark
-- is committed before the 202 goes out, and posting looks here: what one submitter had accepted
-- earlier is posted first, although it is in no queue yet. Empty nearly always. A mark stays until
-- its transaction is PENDING no longer: an announcement that is confirmed late stands behind others.
CREATE TABLE unannounced_transactions (
    partition integer NOT NULL,
    submitter text NOT NULL,
    transaction_id uuid NOT NULL,
    PRIMARY KEY (partition, submitter, transaction_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
