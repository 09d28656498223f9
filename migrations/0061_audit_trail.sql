-- migrate:up

-- Where an act came from: the address of whoever called and the id of the request. Null for what was
-- done before there were these, and for acts that came by no request.
ALTER TABLE audit_log
ADD COLUMN address text,
ADD COLUMN request_id text,
ALTER COLUMN id SET DEFAULT uuid_v7(clock_us());

-- A seal may cover records of the audit log, too (format 2), and nothing else. `audit_ids` and
-- `audit_leaf_prefixes` are what `transaction_ids` and `leaf_prefixes` are for transactions; null
-- where it covers none (format 1).
ALTER TABLE seals
ADD COLUMN audit_ids uuid[],
ADD COLUMN audit_leaf_prefixes bytea,
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT seals_transactions_check,
ADD CONSTRAINT seals_cover_something
CHECK (transactions >= 0 AND (transactions > 0 OR cardinality(audit_ids) > 0)) NOT VALID;

-- How far sealing has walked along the audit log, up to where it may meet what is sealed already
-- (after the database's clock was set back), and since when its records are sealed at all.
ALTER TABLE seal_progress
ADD COLUMN audited_until uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
ADD COLUMN audited_before uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
ADD COLUMN audit_began_at timestamptz NOT NULL DEFAULT now();
