-- name: pin_export
-- Holds for this database transaction alone: no bound on time, since it reads everything and whoever
-- takes the text may be slow; a bound on memory (what is sorted beyond it goes to temporary files);
-- no nested loops and no walks along an index, which would look up millions of rows one by one.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '64MB';
SET LOCAL enable_nestloop = off;
SET LOCAL enable_indexscan = off;

-- name: estimate_transactions
-- How many there are to read, roughly: for the progress bar alone.
SELECT greatest(c.reltuples, 0)::bigint AS transactions
FROM pg_class AS c
WHERE c.oid = 'transactions'::regclass;

-- name: list_registered_assets
-- What the amounts of registered assets mean, also of one that was registered a moment ago.
SELECT code, exponent FROM assets ORDER BY code;

-- name: list_currencies
-- The currencies in which any wallet is kept; $1: that one alone.
SELECT DISTINCT currency FROM wallets WHERE $1::text IS NULL OR currency = $1 ORDER BY currency;

-- name: list_own_wallets
-- The wallets that are no customer's: a few of the house, and one of the world for each currency.
SELECT id::text AS id, kind::text AS kind, currency FROM wallets WHERE kind <> 'customer';

-- name: list_wallets
-- Every wallet, deleted ones too.
SELECT w.id::text AS id, w.currency, w.kind::text AS kind, w.owner_id
FROM wallets AS w
WHERE $1::text IS NULL OR w.currency = $1
ORDER BY w.id;

-- name: list_balances
-- What every wallet has now, as its own row says.
SELECT w.id::text AS id, w.currency, w.balance
FROM wallets AS w
WHERE $1::text IS NULL OR w.currency = $1
ORDER BY w.currency, w.id;

-- name: list_balances_at
-- What every wallet had before a moment ($2): the sum of its entries.
SELECT w.id::text AS id, w.currency, coalesce(e.total, 0)::bigint AS balance
FROM wallets AS w
LEFT JOIN (
    SELECT wallet_id, sum(amount) AS total FROM entries WHERE created_at < $2 GROUP BY wallet_id
) AS e ON e.wallet_id = w.id
WHERE $1::text IS NULL OR w.currency = $1
ORDER BY w.currency, w.id;

-- name: list_daily_balances
-- What each wallet had at the end of each day on which it moved, from $2 on and before $3, by its
-- last entry's own word. Where the database's clock was set back over midnight, a day's entries are
-- not the first ones of the wallet: such a day is left out, and the next one is right again.
SELECT d.day, d.wallet_id::text AS wallet_id, w.currency, e.balance_after
FROM (
    SELECT
        counted.wallet_id, counted.day, counted.last_sequence,
        sum(counted.entries) OVER (PARTITION BY counted.wallet_id ORDER BY counted.day) AS entries
    FROM (
        SELECT
            wallet_id, (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS entries,
            max(sequence) AS last_sequence
        FROM entries
        WHERE $3::timestamptz IS NULL OR created_at < $3
        GROUP BY wallet_id, day
    ) AS counted
) AS d
INNER JOIN entries AS e ON e.wallet_id = d.wallet_id AND e.sequence = d.last_sequence
INNER JOIN wallets AS w ON w.id = d.wallet_id
WHERE
    d.entries = d.last_sequence
    AND ($2::timestamptz IS NULL OR d.day >= ($2 AT TIME ZONE 'UTC')::date)
    AND ($1::text IS NULL OR w.currency = $1)
ORDER BY d.day, w.currency, d.wallet_id;

-- name: list_posted
-- Every posted transaction that has legs, from $2 on and before $3, in the order of time: two legs
-- on its row, or, where it has no one amount, those that stand apart (of currency $1 alone), with
-- spaces between. Copied out as text: what is null is empty, and a description that is there begins
-- with a plus.
SELECT
    t.id, t.type,
    to_char(t.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS completed_at,
    t.submitter, t.idempotency_key, t.reverses, '+' || t.description AS description,
    t.source_wallet_id, t.source_sequence, t.destination_wallet_id, t.destination_sequence,
    t.amount, t.currency,
    CASE WHEN t.amount IS NULL THEN (
        SELECT string_agg(
            format('%s %s %s %s', l.wallet_id, l.currency, l.amount, l.sequence), ' '
            ORDER BY l.position
        )
        FROM transaction_legs AS l
        WHERE l.transaction_id = t.id AND ($1::text IS NULL OR l.currency = $1)
    ) END AS legs
FROM transactions AS t
WHERE
    t.status IN ('COMPLETED', 'REVERSED')
    AND t.type NOT IN ('hold', 'release')
    AND ($2::timestamptz IS NULL OR t.completed_at >= $2)
    AND ($3::timestamptz IS NULL OR t.completed_at < $3)
    AND ($1::text IS NULL OR t.currency = $1 OR t.amount IS NULL)
ORDER BY t.completed_at, t.id;
