-- migrate:up transaction:false

-- The reversals of a transaction. Plain moves reverse nothing and never touch it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS transactions_by_reversed ON transactions (reverses, id)
WHERE reverses IS NOT NULL;
