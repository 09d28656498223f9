-- name: pin_verification
-- Holds for this database transaction alone: no bound on time, since it reads everything; a bound
-- on memory (sorts and hashes beyond it go to temporary files); no nested loops, which would look up
-- millions of rows one by one where the planner guesses few; and no walk along an index: reading
-- all and sorting took 6 s where entries_pkey, whose rows lie all over the table, took 11 s (6
-- million entries, 2 cores).
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;
SET LOCAL enable_nestloop = off;
SET LOCAL enable_indexscan = off;

-- name: estimate_rows
-- How much there is to read, roughly: for the progress bar alone.
SELECT
    (SELECT greatest(c.reltuples, 0)::bigint FROM pg_class AS c WHERE c.oid = 'entries'::regclass)
        AS entries,
    (
        SELECT greatest(c.reltuples, 0)::bigint FROM pg_class AS c
        WHERE c.oid = 'transactions'::regclass
    ) AS transactions;

-- name: walk_wallets
-- A row a wallet beside the sums of its entries, either of which may be missing. Arithmetic is
-- numeric, so that a balance near the end of 64 bits is found and not an error.
SELECT
    coalesce(w.id, e.wallet_id) AS wallet_id,
    w.currency,
    w.kind::text AS kind,
    w.balance,
    w.balance::numeric - w.held + w.overdraft_limit AS available,
    w.version,
    coalesce(e.entries, 0) AS entries,
    coalesce(e.total, 0) AS total,
    coalesce(e.first_sequence, 1) AS first_sequence,
    coalesce(e.last_sequence, 0) AS last_sequence,
    coalesce(e.breaks, 0) AS breaks
FROM wallets AS w
FULL JOIN (
    SELECT
        line.wallet_id,
        count(*) AS entries,
        sum(line.amount) AS total,
        min(line.sequence) AS first_sequence,
        max(line.sequence) AS last_sequence,
        count(*) FILTER (
            WHERE line.balance_after <> coalesce(line.balance_before, 0)::numeric + line.amount
        ) AS breaks
    FROM (
        SELECT
            wallet_id, sequence, amount, balance_after,
            lag(balance_after) OVER (PARTITION BY wallet_id ORDER BY sequence) AS balance_before
        FROM entries
    ) AS line
    GROUP BY line.wallet_id
) AS e ON e.wallet_id = w.id;

-- name: list_chain_breaks
-- The entries of one wallet whose balance does not follow from the one before.
SELECT line.sequence, line.amount, line.balance_after, line.balance_before
FROM (
    SELECT
        sequence, amount, balance_after,
        coalesce(lag(balance_after) OVER (ORDER BY sequence), 0)::numeric AS balance_before
    FROM entries
    WHERE wallet_id = $1
) AS line
WHERE line.balance_after <> line.balance_before + line.amount
ORDER BY line.sequence
LIMIT $2;

-- name: count_transactions
-- How many there are in each status; how many not posted name entries; how many wait too long.
SELECT
    t.status::text AS status,
    count(*) AS transactions,
    count(*) FILTER (
        WHERE t.status NOT IN ('COMPLETED', 'REVERSED')
        AND (t.source_sequence IS NOT NULL OR t.destination_sequence IS NOT NULL)
    ) AS unposted_with_entries,
    count(*) FILTER (
        WHERE t.status = 'PENDING' AND t.created_at < now() - make_interval(secs => $1)
    ) AS overdue
FROM transactions AS t
GROUP BY t.status;

-- name: match_entries
-- Each entry beside its transaction. An entry is matched when a posted transaction names it as the
-- leg that it is. A leg names one entry and an entry one transaction; so if as many entries match
-- as there are legs and as there are entries, none is missing and none is too many.
SELECT
    count(*) AS entries,
    count(*) FILTER (
        WHERE t.status IN ('COMPLETED', 'REVERSED')
        AND (
            (
                e.wallet_id = t.source_wallet_id
                AND e.sequence = t.source_sequence
                AND e.amount = -t.amount
            )
            OR (
                e.wallet_id = t.destination_wallet_id
                AND e.sequence = t.destination_sequence
                AND e.amount = t.amount
            )
        )
    ) AS matched,
    count(*) FILTER (WHERE w.currency <> t.currency) AS strangers
FROM entries AS e
LEFT JOIN transactions AS t ON t.id = e.transaction_id
LEFT JOIN wallets AS w ON w.id = e.wallet_id;

-- name: list_missing_legs
-- Legs that posted transactions name and whose entries are missing or different.
SELECT
    leg.id, leg.side, leg.wallet_id, leg.sequence, leg.amount,
    e.transaction_id AS found_transaction_id, e.amount AS found_amount
FROM (
    SELECT
        id, 'source' AS side, source_wallet_id AS wallet_id, source_sequence AS sequence,
        -amount AS amount
    FROM transactions
    WHERE status IN ('COMPLETED', 'REVERSED')
    UNION ALL
    SELECT id, 'destination', destination_wallet_id, destination_sequence, amount
    FROM transactions
    WHERE status IN ('COMPLETED', 'REVERSED')
) AS leg
LEFT JOIN entries AS e ON e.wallet_id = leg.wallet_id AND e.sequence = leg.sequence
WHERE e.transaction_id IS DISTINCT FROM leg.id OR e.amount IS DISTINCT FROM leg.amount
LIMIT $1;

-- name: list_stray_entries
-- Entries that no posted transaction names as its leg.
SELECT e.wallet_id, e.sequence, e.transaction_id, e.amount, t.status::text AS status
FROM entries AS e
LEFT JOIN transactions AS t ON t.id = e.transaction_id
WHERE
    t.id IS NULL
    OR t.status NOT IN ('COMPLETED', 'REVERSED')
    OR NOT coalesce(
        (
            e.wallet_id = t.source_wallet_id
            AND e.sequence = t.source_sequence
            AND e.amount = -t.amount
        )
        OR (
            e.wallet_id = t.destination_wallet_id
            AND e.sequence = t.destination_sequence
            AND e.amount = t.amount
        ),
        false
    )
LIMIT $1;

-- name: list_strange_currencies
-- Entries whose transaction is in another currency than their wallet.
SELECT e.wallet_id, e.sequence, e.transaction_id, w.currency, t.currency AS transaction_currency
FROM entries AS e
INNER JOIN transactions AS t ON t.id = e.transaction_id
INNER JOIN wallets AS w ON w.id = e.wallet_id
WHERE w.currency <> t.currency
LIMIT $1;

-- name: list_unposted_with_entries
-- Transactions that are not posted and name entries.
SELECT t.id, t.status::text AS status
FROM transactions AS t
WHERE
    t.status NOT IN ('COMPLETED', 'REVERSED')
    AND (t.source_sequence IS NOT NULL OR t.destination_sequence IS NOT NULL)
LIMIT $1;

-- name: list_overdue
-- Transactions that wait longer than they should.
SELECT t.id, t.created_at
FROM transactions AS t
WHERE t.status = 'PENDING' AND t.created_at < now() - make_interval(secs => $1)
LIMIT $2;

-- name: count_exceptional
-- The list of rare states, and how much of it the transactions confirm.
SELECT x.status::text AS status, count(*) AS listed, count(t.id) AS confirmed
FROM exceptional_transactions AS x
LEFT JOIN transactions AS t ON t.id = x.transaction_id AND t.status = x.status
GROUP BY x.status;

-- name: list_exceptional_differences
-- Where the list of rare states and the transactions themselves disagree.
SELECT
    coalesce(x.transaction_id, t.id) AS id, x.status::text AS listed_status,
    t.status::text AS status
FROM exceptional_transactions AS x
FULL JOIN (
    SELECT id, status FROM transactions WHERE status IN ('FAILED', 'QUARANTINED', 'REVERSED')
) AS t ON t.id = x.transaction_id AND t.status = x.status
WHERE x.transaction_id IS NULL OR t.id IS NULL
LIMIT $1;

-- name: count_set_aside
-- Events and replies that wait for an operator.
SELECT count(*)
FROM dead_letters
WHERE reason = ANY ($1::text[]) AND replayed_at IS NULL AND discarded_at IS NULL;

-- name: list_set_aside
-- Those, oldest first.
SELECT id, reason, detail
FROM dead_letters
WHERE reason = ANY ($1::text[]) AND replayed_at IS NULL AND discarded_at IS NULL
ORDER BY id
LIMIT $2;

-- name: list_wrong_legs
-- For the transactions $1: legs whose entry is missing or different, does not follow from the one
-- before, or follows an entry that is nobody's leg. The entry before is looked up only where it is
-- not among these legs itself.
WITH legs AS MATERIALIZED (
    SELECT t.id, leg.side, leg.wallet_id, leg.sequence, leg.amount
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
    CROSS JOIN LATERAL (
        VALUES ('source', t.source_wallet_id, t.source_sequence, -t.amount),
        ('destination', t.destination_wallet_id, t.destination_sequence, t.amount)
    ) AS leg (side, wallet_id, sequence, amount)
    WHERE t.status IN ('COMPLETED', 'REVERSED')
),

lines AS MATERIALIZED (
    SELECT
        l.*, e.transaction_id AS found_transaction_id, e.amount AS found_amount, e.balance_after,
        lag(e.sequence) OVER chain AS known_sequence,
        lag(e.balance_after) OVER chain AS known_balance
    FROM legs AS l
    LEFT JOIN entries AS e ON e.wallet_id = l.wallet_id AND e.sequence = l.sequence
    WINDOW chain AS (PARTITION BY l.wallet_id ORDER BY l.sequence)
),

chained AS (
    SELECT
        line.*, before.transaction_id AS before_transaction_id, before.amount AS before_amount,
        p.status::text AS before_status,
        CASE
            WHEN line.sequence = 1 THEN 0
            WHEN line.known_sequence = line.sequence - 1 THEN line.known_balance
            ELSE before.balance_after
        END::numeric AS balance_before,
        before.transaction_id IS NOT NULL AND NOT coalesce(
            p.status IN ('COMPLETED', 'REVERSED')
            AND (
                (
                    line.wallet_id = p.source_wallet_id
                    AND line.sequence - 1 = p.source_sequence
                )
                OR (
                    line.wallet_id = p.destination_wallet_id
                    AND line.sequence - 1 = p.destination_sequence
                )
            ),
            false
        ) AS is_before_stray
    FROM lines AS line
    LEFT JOIN LATERAL (
        SELECT e.transaction_id, e.amount, e.balance_after
        FROM entries AS e
        WHERE
            line.sequence > 1
            AND line.known_sequence IS DISTINCT FROM line.sequence - 1
            AND e.wallet_id = line.wallet_id
            AND e.sequence = line.sequence - 1
        LIMIT 1
    ) AS before ON true
    LEFT JOIN transactions AS p ON p.id = before.transaction_id
)

SELECT * FROM chained
WHERE
    found_transaction_id IS DISTINCT FROM id
    OR found_amount IS DISTINCT FROM amount
    OR balance_before IS NULL
    OR balance_after <> balance_before + amount
    OR is_before_stray
ORDER BY wallet_id, sequence
LIMIT $2;

-- name: list_wrong_wallets
-- For the transactions $1: wallets of their legs that are missing, in another currency, or not what
-- their last entry says; and last entries that are nobody's leg.
WITH touched AS MATERIALIZED (
    SELECT DISTINCT ON (leg.wallet_id, t.currency)
        leg.wallet_id, leg.sequence, t.id AS transaction_id, t.currency AS transaction_currency
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
    CROSS JOIN LATERAL (
        VALUES (t.source_wallet_id, t.source_sequence),
        (t.destination_wallet_id, t.destination_sequence)
    ) AS leg (wallet_id, sequence)
    WHERE t.status IN ('COMPLETED', 'REVERSED') AND leg.sequence IS NOT NULL
    ORDER BY leg.wallet_id, t.currency, leg.sequence
),

seen AS (
    SELECT
        touched.*, w.currency, w.kind::text AS kind, w.balance, w.version,
        w.balance::numeric - w.held + w.overdraft_limit AS available,
        coalesce(newest.sequence, 0) AS entries, coalesce(newest.balance_after, 0) AS total,
        1 AS first_sequence, coalesce(newest.sequence, 0) AS last_sequence,
        newest.transaction_id AS last_transaction_id, newest.amount AS last_amount,
        p.status::text AS last_status,
        newest.transaction_id IS NOT NULL AND NOT coalesce(
            p.status IN ('COMPLETED', 'REVERSED')
            AND (
                (
                    touched.wallet_id = p.source_wallet_id
                    AND newest.sequence = p.source_sequence
                )
                OR (
                    touched.wallet_id = p.destination_wallet_id
                    AND newest.sequence = p.destination_sequence
                )
            ),
            false
        ) AS is_last_stray
    FROM touched
    LEFT JOIN wallets AS w ON w.id = touched.wallet_id
    LEFT JOIN LATERAL (
        SELECT e.sequence, e.transaction_id, e.amount, e.balance_after
        FROM entries AS e
        WHERE e.wallet_id = touched.wallet_id
        ORDER BY e.sequence DESC
        LIMIT 1
    ) AS newest ON true
    LEFT JOIN transactions AS p ON p.id = newest.transaction_id
)

SELECT * FROM seen
WHERE
    currency IS DISTINCT FROM transaction_currency
    OR balance <> total
    OR version <> entries
    OR (kind = 'customer' AND available < 0)
    OR is_last_stray
ORDER BY wallet_id
LIMIT $2;

-- name: list_wrong_statuses
-- For the transactions $1: those that are not posted and name entries, and those in a rare state
-- that are not listed so.
WITH seen AS (
    SELECT
        t.id, t.status::text AS status, x.status::text AS listed_status,
        t.source_sequence IS NOT NULL OR t.destination_sequence IS NOT NULL AS names_entries
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
    LEFT JOIN LATERAL (
        -- By its key, row by row: the list may be long where most of these are not on it.
        SELECT x.status
        FROM exceptional_transactions AS x
        WHERE
            t.status IN ('FAILED', 'QUARANTINED', 'REVERSED')
            AND x.status = t.status
            AND x.transaction_id = t.id
        LIMIT 1
    ) AS x ON true
)

SELECT * FROM seen
WHERE
    (status NOT IN ('COMPLETED', 'REVERSED') AND names_entries)
    OR (status IN ('FAILED', 'QUARANTINED', 'REVERSED') AND listed_status IS NULL)
ORDER BY id
LIMIT $2;

-- name: pin_lookups
-- What is planned from here on finds few rows by their keys: see `pin_verification`.
SET LOCAL enable_nestloop = on;
SET LOCAL enable_indexscan = on;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_material = off;

-- name: read_leaves
-- For each seal the digests of its transactions' rows, one behind the other in the order in which it
-- names them (32 zero bytes where there is none), and how many entries are among the rows. For seals
-- that are to be made: numbers $1 and transactions $2, side by side; and for those from $3 to $4.
-- This is format 1, byte for byte (docs/seals.md): it never changes. Only what PostgreSQL itself
-- brings is called: a function of ours could be replaced. The session says how rows are found: by
-- their keys, or all at once by reading and hashing whole tables.
SELECT
    leaf.number,
    string_agg(coalesce(leaf.digest, decode(repeat('00', 32), 'hex')), ''::bytea ORDER BY leaf.place)
        AS leaves,
    coalesce(sum(leaf.entries), 0)::bigint AS entries
FROM (
    SELECT
        m.number,
        m.place,
        CASE WHEN t.id IS NOT NULL THEN sha256(
            record_send(row(
                t.id,
                CASE
                    WHEN t.status IN ('COMPLETED', 'REVERSED') THEN 'completed'
                    WHEN t.status = 'FAILED' THEN 'failed'
                    ELSE 'open'
                END,
                t.failure_code::text, t.failure_detail, t.type::text, t.submitter,
                t.idempotency_key, t.fingerprint, t.channel::text, t.source_wallet_id,
                t.destination_wallet_id, t.amount, t.currency, t.reverses, t.created_at,
                t.completed_at
            ))
            || CASE WHEN debit.wallet_id IS NULL THEN ''::bytea ELSE record_send(row(
                debit.wallet_id, debit.sequence, debit.transaction_id, debit.amount,
                debit.balance_after, debit.created_at
            )) END
            || CASE WHEN credit.wallet_id IS NULL THEN ''::bytea ELSE record_send(row(
                credit.wallet_id, credit.sequence, credit.transaction_id, credit.amount,
                credit.balance_after, credit.created_at
            )) END
        ) END AS digest,
        num_nonnulls(debit.wallet_id, credit.wallet_id) AS entries
    FROM (
        SELECT given.number, given.id, given.place
        FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS given (number, id, place)
        UNION ALL
        SELECT s.number, named.id, named.place
        FROM seals AS s
        CROSS JOIN LATERAL unnest(s.transaction_ids) WITH ORDINALITY AS named (id, place)
        WHERE s.number BETWEEN $3 AND $4
    ) AS m
    LEFT JOIN transactions AS t ON t.id = m.id
    LEFT JOIN entries AS debit
        ON debit.wallet_id = t.source_wallet_id AND debit.sequence = t.source_sequence
    LEFT JOIN entries AS credit
        ON credit.wallet_id = t.destination_wallet_id AND credit.sequence = t.destination_sequence
    OFFSET 0
) AS leaf
GROUP BY leaf.number
ORDER BY leaf.number;

-- name: count_sealed
-- How long the chain is, and how many transactions its seals say they cover.
SELECT count(*) AS seals, coalesce(sum(transactions), 0)::bigint AS transactions FROM seals;

-- name: list_seals
-- The next seals, without what they name.
SELECT
    number, format, until, transactions, entries, previous, digest, sealed_at, key_id, signature
FROM seals
WHERE number > $1
ORDER BY number
LIMIT $2;

-- name: list_seal_members
-- What the seals from $1 to $2 name.
SELECT number, transaction_ids FROM seals WHERE number BETWEEN $1 AND $2;

-- name: read_seal_members
-- What one seal names, and the beginnings of its transactions' digests.
SELECT transaction_ids, leaf_prefixes FROM seals WHERE number = $1;

-- name: count_unsealed
-- Transactions that ended and are in no seal although the walk has passed them, or although that was
-- more than $1 seconds ago; and those that are in more than one.
WITH sealed AS (
    SELECT m.id, count(*) AS times
    FROM seals AS s
    CROSS JOIN LATERAL unnest(s.transaction_ids) AS m (id)
    GROUP BY m.id
)

SELECT
    count(*) FILTER (WHERE sealed.times > 1) AS doubled,
    count(*) FILTER (
        WHERE sealed.id IS NULL
        AND (
            (t.id < p.walked_until AND u.transaction_id IS NULL)
            OR greatest(t.completed_at, p.began_at) < now() - make_interval(secs => $1)
        )
    ) AS missing
FROM transactions AS t
CROSS JOIN seal_progress AS p
LEFT JOIN sealed ON sealed.id = t.id
LEFT JOIN unsealed_transactions AS u ON u.transaction_id = t.id
WHERE t.status IN ('COMPLETED', 'REVERSED', 'FAILED');

-- name: list_unsealed
-- Those, the oldest first.
WITH sealed AS (
    SELECT m.id, count(*) AS times
    FROM seals AS s
    CROSS JOIN LATERAL unnest(s.transaction_ids) AS m (id)
    GROUP BY m.id
)

SELECT t.id, t.status::text AS status, t.completed_at, coalesce(sealed.times, 0) AS times
FROM transactions AS t
CROSS JOIN seal_progress AS p
LEFT JOIN sealed ON sealed.id = t.id
LEFT JOIN unsealed_transactions AS u ON u.transaction_id = t.id
WHERE
    t.status IN ('COMPLETED', 'REVERSED', 'FAILED')
    AND (
        sealed.times > 1
        OR (
            sealed.id IS NULL
            AND (
                (t.id < p.walked_until AND u.transaction_id IS NULL)
                OR greatest(t.completed_at, p.began_at) < now() - make_interval(secs => $1)
            )
        )
    )
ORDER BY t.id
LIMIT $2;
