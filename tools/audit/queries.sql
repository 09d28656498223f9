-- name: list_wallets
-- Every wallet's balance, as its row says.
SELECT id::text AS id, currency, kind::text AS kind, balance FROM wallets;

-- name: count_types
-- How many transactions of each type are posted.
SELECT type::text AS type, count(*) AS transactions
FROM transactions
WHERE status IN ('COMPLETED', 'REVERSED')
GROUP BY type
ORDER BY type;
