-- migrate:up

-- A processor tells of most of what it posts from memory. Its sessions name it in a setting, and
-- what they owe is claimed by it from the beginning: one statement and one commit less for each batch
-- that is posted. Sessions without the setting owe rows that anybody claims, as before.
ALTER TABLE outbox
ALTER COLUMN claimed_by SET DEFAULT nullif(current_setting('ackledger.claimant', TRUE), '')::uuid,
ALTER COLUMN claimed_until SET DEFAULT CASE
    WHEN nullif(current_setting('ackledger.claimant', TRUE), '') IS NOT NULL
        THEN clock_timestamp() + interval '5 seconds'
END;
