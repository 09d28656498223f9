-- migrate:up

-- Verifications of the whole book that operators ask for and the reconciler's leader makes, one at a
-- time. One that was begun and has not ended is begun anew by the next leader, a few times at most.
CREATE TABLE verifications (
    id uuid PRIMARY KEY DEFAULT uuid_v7(clock_us()),
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    starts integer NOT NULL DEFAULT 0,
    started_at timestamptz,
    rows_done bigint NOT NULL DEFAULT 0,
    rows_total bigint NOT NULL DEFAULT 0,
    ended_at timestamptz,
    wallets bigint,
    transactions bigint,
    entries bigint,
    latest_seal text,
    findings bigint,
    error text,
    CONSTRAINT verifications_outcome CHECK (
        (ended_at IS NOT NULL) = (findings IS NOT NULL OR error IS NOT NULL)
    )
);

CREATE UNIQUE INDEX verifications_one_open ON verifications ((ended_at IS NULL))
WHERE ended_at IS NULL;

-- When a finding was last met again; null where never.
ALTER TABLE integrity_findings ADD COLUMN last_found_at timestamptz;
