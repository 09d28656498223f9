-- migrate:up

-- What nobody posts expires, but not before it was announced past its age and taken by a consumer,
-- several times over. `is_last_call`: the latest announcement was such a one and is confirmed;
-- `last_calls` counts those that a consumer took in vain.
ALTER TABLE stale_transactions
ADD COLUMN is_last_call boolean NOT NULL DEFAULT false,
ADD COLUMN last_calls integer NOT NULL DEFAULT 0;

-- How far the integrity check came behind the sweep. What was swept before this release is left to
-- `ackledger verify`.
ALTER TABLE sweep_progress
ADD COLUMN checked_until uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';

UPDATE sweep_progress SET checked_until = swept_until;

-- Transactions that left the worklist: the integrity check may have passed them while they were
-- still PENDING, so it looks at them by this list.
CREATE TABLE late_endings (
    transaction_id uuid PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- What the integrity check found, told once for each subject.
CREATE TABLE integrity_findings (
    check_name text NOT NULL,
    subject text NOT NULL,
    detail text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (check_name, subject)
);
