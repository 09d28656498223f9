-- name: write_wallets
-- Very many wallets at once, empty, for locks and indexes of a size that tells something.
INSERT INTO wallets (id, owner_id, overdraft_limit, currency)
SELECT w.id, w.owner_id, w.overdraft_limit, $4
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS w (id, owner_id, overdraft_limit)
ON CONFLICT (id) DO NOTHING;
