-- migrate:up

-- Nothing is ordered by these words.
-- squawk-ignore-file require-enum-value-ordering

-- A new value of an enumeration cannot be used in the database transaction that adds it.
ALTER TYPE transaction_type ADD VALUE IF NOT EXISTS 'hold';
ALTER TYPE transaction_type ADD VALUE IF NOT EXISTS 'capture';
ALTER TYPE transaction_type ADD VALUE IF NOT EXISTS 'release';
ALTER TYPE transaction_type ADD VALUE IF NOT EXISTS 'journal';
ALTER TYPE transaction_status ADD VALUE IF NOT EXISTS 'SCHEDULED';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'condition_failed';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'cancelled';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'batch_failed';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'transaction_not_found';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'not_reversible';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'already_reversed';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'amount_exceeds_reversible';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'hold_not_found';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'hold_closed';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'hold_expired';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'amount_exceeds_hold';
ALTER TYPE failure_code ADD VALUE IF NOT EXISTS 'rule_refused';
