-- migrate:up transaction:false

-- The wallets that a submitter made. Posting changes neither column, so balances stay HOT.
CREATE INDEX CONCURRENTLY IF NOT EXISTS wallets_by_creator ON wallets (created_by, id)
WHERE created_by IS NOT NULL;
