-- name: pin_verification
-- Holds for this database transaction alone: no bound on time, since it reads everything; a bound
-- on memory (sorts and hashes beyond it go to temporary files); no nested loops, which would look up
-- millions of rows one by one where the planner guesses few; no walk along an index: reading all and
-- sorting took 6 s where entries_pkey, whose rows lie all over the table, took 11 s (6 million
-- entries, 2 cores); and no parallel workers: they took 2.2 s of CPU where one process takes 1.9, and
-- the chain, which has a connection of its own, takes longer than all the rest.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;
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
-- A row a wallet beside the sums of its entries and of its open holds, each of which may be missing.
-- Arithmetic is numeric, so that a balance near the end of 64 bits is found and not an error.
SELECT
    coalesce(w.id, e.wallet_id, h.wallet_id) AS wallet_id,
    w.currency,
    w.kind::text AS kind,
    w.balance,
    w.balance::numeric - w.held + w.overdraft_limit AS available,
    w.forced_overdraft,
    coalesce(w.held, 0) AS held,
    coalesce(h.on_hold, 0) AS on_hold,
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
) AS e ON e.wallet_id = w.id
FULL JOIN (
    SELECT wallet_id, sum(remaining) AS on_hold FROM holds WHERE status = 'OPEN' GROUP BY wallet_id
) AS h ON h.wallet_id = w.id;

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
-- How many there are of each status and type; of how many the row has no amount; how many name
-- entries that may not, since they are not posted or their legs do not stand on the row; how many
-- wait too long.
SELECT
    t.status::text AS status,
    t.type::text AS type,
    count(*) AS transactions,
    count(*) - count(t.amount) AS without_amount,
    count(*) FILTER (
        WHERE (
            t.status NOT IN ('COMPLETED', 'REVERSED') OR t.type IN ('hold', 'release', 'journal')
        )
        AND (t.source_sequence IS NOT NULL OR t.destination_sequence IS NOT NULL)
    ) AS unposted_with_entries,
    count(*) FILTER (
        WHERE t.status = 'PENDING'
        AND pending_since(t.id, t.created_at, t.has_terms) < now() - make_interval(secs => $1)
    ) AS overdue
FROM transactions AS t
GROUP BY t.status, t.type;

-- name: match_entries
-- Each entry beside its transaction. An entry is matched when a posted transaction's row names it as
-- the leg that it is. A leg names one entry and an entry one transaction; so if as many entries match
-- (here and in `match_legs`) as there are legs and as there are entries, none is missing and none is
-- too many. A row that names entries although its legs do not stand on it is counted above.
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

-- name: count_legs
-- The legs that stand apart from their transactions' rows: how many are posted, of those in another
-- currency than their wallet, and how many name an entry without being posted.
SELECT
    count(*) FILTER (WHERE l.is_posted) AS posted,
    count(*) FILTER (WHERE l.is_posted AND w.currency <> l.currency) AS strangers,
    count(*) FILTER (WHERE l.sequence IS NOT NULL AND NOT l.is_posted) AS unposted_with_entries
FROM (
    SELECT
        leg.wallet_id, leg.currency, leg.sequence,
        coalesce(t.status IN ('COMPLETED', 'REVERSED'), false) AS is_posted
    FROM transaction_legs AS leg
    LEFT JOIN transactions AS t ON t.id = leg.transaction_id
) AS l
LEFT JOIN wallets AS w ON w.id = l.wallet_id;

-- name: match_legs
-- The entries that those name as the legs that they are. Each counts once, however many name it.
SELECT count(*)
FROM (
    SELECT DISTINCT l.transaction_id, l.wallet_id, l.sequence, l.amount
    FROM transaction_legs AS l
    INNER JOIN transactions AS t ON t.id = l.transaction_id
    WHERE
        t.status IN ('COMPLETED', 'REVERSED')
        AND (t.type = 'journal' OR (t.type = 'reversal' AND t.amount IS NULL))
) AS leg
INNER JOIN entries AS e
    ON e.wallet_id = leg.wallet_id AND e.sequence = leg.sequence
    AND e.transaction_id = leg.transaction_id AND e.amount = leg.amount;

-- name: list_missing_legs
-- Legs that posted transactions name and whose entries are missing or different, or are those of a
-- like leg already.
SELECT
    leg.transaction_id AS id, leg.side, leg.wallet_id, leg.sequence, leg.amount,
    e.transaction_id AS found_transaction_id, e.amount AS found_amount
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY transaction_id, wallet_id, sequence, amount) AS likes
    FROM posted_legs
) AS leg
LEFT JOIN entries AS e ON e.wallet_id = leg.wallet_id AND e.sequence = leg.sequence
WHERE
    e.transaction_id IS DISTINCT FROM leg.transaction_id
    OR e.amount IS DISTINCT FROM leg.amount
    OR leg.likes > 1
LIMIT $1;

-- name: list_stray_entries
-- Entries that no posted transaction names as its leg.
SELECT e.wallet_id, e.sequence, e.transaction_id, e.amount, t.status::text AS status
FROM entries AS e
LEFT JOIN transactions AS t ON t.id = e.transaction_id
LEFT JOIN posted_legs AS leg
    ON leg.transaction_id = e.transaction_id AND leg.wallet_id = e.wallet_id
    AND leg.sequence = e.sequence AND leg.amount = e.amount
WHERE leg.transaction_id IS NULL
LIMIT $1;

-- name: list_strange_currencies
-- Legs in another currency than their wallet.
SELECT
    leg.wallet_id, leg.sequence, leg.transaction_id, w.currency,
    leg.currency AS transaction_currency
FROM posted_legs AS leg
INNER JOIN wallets AS w ON w.id = leg.wallet_id
WHERE w.currency <> leg.currency
LIMIT $1;

-- name: list_wrong_journals
-- Journals, and reversals of them, that have no legs, or whose legs do not sum to zero in a currency.
SELECT
    t.id, l.currency, count(l.transaction_id) AS legs, sum(l.amount) AS total_amount,
    count(*) OVER () AS total
FROM transactions AS t
LEFT JOIN transaction_legs AS l ON l.transaction_id = t.id
WHERE
    t.status IN ('COMPLETED', 'REVERSED')
    AND (t.type = 'journal' OR (t.type = 'reversal' AND t.amount IS NULL))
GROUP BY t.id, l.currency
HAVING count(l.transaction_id) = 0 OR sum(l.amount) <> 0
LIMIT $1;

-- name: list_unposted_with_entries
-- Transactions that name entries and may not: they are not posted, or their legs do not stand on
-- their rows.
SELECT t.id, t.status::text AS status, t.type::text AS type
FROM transactions AS t
WHERE
    (t.source_sequence IS NOT NULL OR t.destination_sequence IS NOT NULL)
    AND (t.status NOT IN ('COMPLETED', 'REVERSED') OR t.type IN ('hold', 'release', 'journal'))
UNION ALL
SELECT l.transaction_id, t.status::text, t.type::text
FROM transaction_legs AS l
LEFT JOIN transactions AS t ON t.id = l.transaction_id
WHERE
    l.sequence IS NOT NULL AND coalesce(t.status NOT IN ('COMPLETED', 'REVERSED'), true)
LIMIT $1;

-- name: list_overdue
-- Transactions that wait longer than they should.
SELECT t.id, pending_since(t.id, t.created_at, t.has_terms) AS since
FROM transactions AS t
WHERE
    t.status = 'PENDING'
    AND pending_since(t.id, t.created_at, t.has_terms) < now() - make_interval(secs => $1)
LIMIT $2;

-- name: count_scheduled
-- The schedule, and how much of it the transactions confirm.
SELECT
    count(*) AS listed,
    count(*) FILTER (
        WHERE t.status = 'SCHEDULED' AND terms.execute_at = s.execute_at
        AND s.execute_at > now() - make_interval(secs => $1)
    ) AS confirmed
FROM scheduled_transactions AS s
LEFT JOIN transactions AS t ON t.id = s.transaction_id
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = s.transaction_id;

-- name: list_wrong_schedules
-- Where the schedule and the transactions disagree, or what should have been PENDING long ago.
SELECT
    coalesce(t.id, s.transaction_id) AS id, t.id IS NOT NULL AS is_scheduled,
    s.execute_at AS listed_at, terms.execute_at, count(*) OVER () AS total
FROM (SELECT id FROM transactions WHERE status = 'SCHEDULED') AS t
FULL JOIN scheduled_transactions AS s ON s.transaction_id = t.id
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = t.id
WHERE
    t.id IS NULL
    OR s.execute_at IS DISTINCT FROM terms.execute_at
    OR s.execute_at <= now() - make_interval(secs => $1)
LIMIT $2;

-- name: count_holds
-- The holds, how many captures they have, and how many are right: each belongs to a COMPLETED
-- transaction of the same amount and wallet, and what is captured of it is what its captures took.
SELECT
    count(*) AS holds,
    coalesce(sum(c.captures), 0)::bigint AS captures,
    count(*) FILTER (
        WHERE t.type = 'hold' AND t.status = 'COMPLETED'
        AND t.source_wallet_id = h.wallet_id AND t.amount = h.amount
        AND h.captured = coalesce(c.captured, 0)
        AND h.captured::numeric + h.remaining <= h.amount
        AND (h.status = 'OPEN') = (h.remaining > 0)
    ) AS confirmed
FROM holds AS h
LEFT JOIN transactions AS t ON t.id = h.transaction_id
LEFT JOIN (
    SELECT terms.hold_id, count(*) AS captures, sum(capture.amount) AS captured
    FROM transaction_terms AS terms
    INNER JOIN transactions AS capture ON capture.id = terms.transaction_id
    WHERE
        terms.hold_id IS NOT NULL
        AND capture.type = 'capture' AND capture.status IN ('COMPLETED', 'REVERSED')
    GROUP BY terms.hold_id
) AS c ON c.hold_id = h.transaction_id;

-- name: list_wrong_holds
-- Those that are not right, transactions without their hold, and captures of none.
SELECT
    coalesce(h.transaction_id, t.id, c.hold_id) AS id, h.wallet_id, h.amount, h.captured,
    h.remaining, h.status::text AS status, t.id IS NOT NULL AS is_posted, t.source_wallet_id,
    t.amount AS posted_amount, coalesce(c.captured, 0) AS taken, count(*) OVER () AS total
FROM holds AS h
FULL JOIN (
    SELECT id, source_wallet_id, amount FROM transactions
    WHERE type = 'hold' AND status = 'COMPLETED'
) AS t ON t.id = h.transaction_id
FULL JOIN (
    SELECT terms.hold_id, sum(capture.amount) AS captured
    FROM transactions AS capture
    LEFT JOIN transaction_terms AS terms ON terms.transaction_id = capture.id
    WHERE capture.type = 'capture' AND capture.status IN ('COMPLETED', 'REVERSED')
    GROUP BY terms.hold_id
) AS c ON c.hold_id = coalesce(h.transaction_id, t.id)
WHERE NOT coalesce(
    t.source_wallet_id = h.wallet_id AND t.amount = h.amount
    AND h.captured = coalesce(c.captured, 0)
    AND h.captured::numeric + h.remaining <= h.amount
    AND (h.status = 'OPEN') = (h.remaining > 0),
    false
)
LIMIT $1;

-- name: list_wrong_reversals
-- Transactions of which more was reversed than there was, or which are not REVERSED exactly when the
-- whole is. What has no amount, a journal, is reversed once and as a whole. The list of rare states
-- is checked by itself.
SELECT
    coalesce(r.reverses, x.transaction_id) AS id, o.status::text AS status, o.amount,
    coalesce(r.reversals, 0) AS reversals, coalesce(r.amount, 0) AS reversed_amount,
    count(*) OVER () AS total
FROM (
    SELECT reverses, count(*) AS reversals, count(amount) AS in_part, sum(amount) AS amount
    FROM transactions
    WHERE reverses IS NOT NULL AND status = 'COMPLETED'
    GROUP BY reverses
) AS r
FULL JOIN (
    SELECT transaction_id FROM exceptional_transactions WHERE status = 'REVERSED'
) AS x ON x.transaction_id = r.reverses
LEFT JOIN transactions AS o ON o.id = coalesce(r.reverses, x.transaction_id)
WHERE NOT coalesce(
    CASE
        WHEN o.amount IS NULL THEN
            o.status = 'REVERSED' AND r.reversals = 1 AND r.in_part = 0
        WHEN coalesce(r.in_part < r.reversals, false) THEN false
        WHEN coalesce(r.amount, 0) = o.amount THEN o.status = 'REVERSED'
        ELSE o.status = 'COMPLETED' AND r.amount < o.amount
    END,
    false
)
LIMIT $1;

-- name: list_unturned_reversals
-- Reversals whose legs are not those of what they reverse the other way round. An outer join, so that
-- the few reversals are hashed and not all transactions.
SELECT wrong.id, wrong.reverses, count(*) OVER () AS total
FROM (
    SELECT r.id, r.reverses
    FROM transactions AS r
    LEFT JOIN transactions AS o ON o.id = r.reverses
    WHERE
        r.reverses IS NOT NULL AND r.status = 'COMPLETED' AND r.amount IS NOT NULL
        AND (
            r.source_wallet_id IS DISTINCT FROM o.destination_wallet_id
            OR r.destination_wallet_id IS DISTINCT FROM o.source_wallet_id
        )
    UNION
    SELECT line.id, line.reverses
    FROM (
        SELECT r.id, r.reverses, l.wallet_id, l.currency, l.amount
        FROM transactions AS r
        INNER JOIN transaction_legs AS l ON l.transaction_id = r.id
        WHERE r.reverses IS NOT NULL AND r.status = 'COMPLETED' AND r.amount IS NULL
        UNION ALL
        SELECT r.id, r.reverses, l.wallet_id, l.currency, l.amount
        FROM transactions AS r
        INNER JOIN transaction_legs AS l ON l.transaction_id = r.reverses
        WHERE r.reverses IS NOT NULL AND r.status = 'COMPLETED' AND r.amount IS NULL
    ) AS line
    GROUP BY line.id, line.reverses, line.wallet_id, line.currency
    HAVING sum(line.amount) <> 0
) AS wrong
LIMIT $1;

-- name: list_broken_batches
-- Atomic batches of which some members are posted or refused, and not all of them alike.
SELECT
    b.batch_id, b.members, b.posted, b.failed, count(*) OVER () AS total
FROM (
    SELECT
        terms.batch_id, count(*) AS members,
        count(*) FILTER (WHERE t.status IN ('COMPLETED', 'REVERSED')) AS posted,
        count(*) FILTER (WHERE t.status = 'FAILED') AS failed
    FROM transaction_terms AS terms
    LEFT JOIN transactions AS t ON t.id = terms.transaction_id
    WHERE terms.batch_id IS NOT NULL
    GROUP BY terms.batch_id
) AS b
WHERE b.posted + b.failed > 0 AND b.posted < b.members AND b.failed < b.members
LIMIT $1;

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
    SELECT
        leg.transaction_id AS id, leg.side, leg.wallet_id, leg.sequence, leg.amount
    FROM unnest($1::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT one.* FROM posted_legs AS one WHERE one.transaction_id = wanted.id OFFSET 0
    ) AS leg
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
        before.transaction_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM posted_legs AS leg
            WHERE
                leg.transaction_id = before.transaction_id
                AND leg.wallet_id = line.wallet_id AND leg.sequence = line.sequence - 1
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
-- their last entry and their open holds say; and last entries that are nobody's leg.
WITH touched AS MATERIALIZED (
    SELECT DISTINCT ON (leg.wallet_id, leg.currency)
        leg.wallet_id, leg.sequence, leg.transaction_id, leg.currency AS transaction_currency,
        leg.has_terms
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
    CROSS JOIN LATERAL (
        SELECT one.wallet_id, one.sequence, one.transaction_id, one.currency, t.has_terms
        FROM posted_legs AS one
        WHERE one.transaction_id = t.id AND one.sequence IS NOT NULL
        UNION ALL
        -- A hold and a release have no legs.
        SELECT t.source_wallet_id, NULL, t.id, t.currency, t.has_terms
        WHERE
            t.type IN ('hold', 'release') AND t.status = 'COMPLETED'
            AND t.source_wallet_id IS NOT NULL
        OFFSET 0
    ) AS leg
    ORDER BY leg.wallet_id, leg.currency, leg.has_terms NULLS LAST, leg.sequence
),

seen AS (
    SELECT
        touched.*, w.currency, w.kind::text AS kind, w.balance, w.version,
        w.balance::numeric - w.held + w.overdraft_limit AS available, w.forced_overdraft,
        coalesce(w.held, 0) AS held,
        -- Looked up where a hold may be: what leaves none behind has terms or meets one.
        CASE
            WHEN w.held <> 0 OR touched.has_terms THEN (
                SELECT coalesce(sum(h.remaining), 0) FROM holds AS h
                WHERE h.wallet_id = touched.wallet_id AND h.status = 'OPEN'
            )
            ELSE 0
        END AS on_hold,
        coalesce(newest.sequence, 0) AS entries, coalesce(newest.balance_after, 0) AS total,
        1 AS first_sequence, coalesce(newest.sequence, 0) AS last_sequence,
        newest.transaction_id AS last_transaction_id, newest.amount AS last_amount,
        p.status::text AS last_status,
        newest.transaction_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM posted_legs AS leg
            WHERE
                leg.transaction_id = newest.transaction_id
                AND leg.wallet_id = touched.wallet_id AND leg.sequence = newest.sequence
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
    currency IS NULL
    OR currency <> transaction_currency
    OR balance <> total
    OR version <> entries
    OR held <> on_hold
    OR (kind = 'customer' AND available + forced_overdraft < 0)
    OR is_last_stray
ORDER BY wallet_id
LIMIT $2;

-- name: list_wrong_statuses
-- For the transactions $1: those that name entries and may not, and those in a rare state that are
-- not listed so.
WITH seen AS (
    SELECT
        t.id, t.status::text AS status, t.type::text AS type, x.status::text AS listed_status,
        CASE
            WHEN t.status NOT IN ('COMPLETED', 'REVERSED') THEN
                t.source_sequence IS NOT NULL OR t.destination_sequence IS NOT NULL
                OR (
                    t.has_terms AND EXISTS (
                        SELECT FROM transaction_legs AS leg
                        WHERE leg.transaction_id = t.id AND leg.sequence IS NOT NULL
                    )
                )
            WHEN t.type IN ('hold', 'release', 'journal') THEN
                t.source_sequence IS NOT NULL OR t.destination_sequence IS NOT NULL
            ELSE false
        END AS is_naming_entries
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
    is_naming_entries
    OR (status IN ('FAILED', 'QUARANTINED', 'REVERSED') AND listed_status IS NULL)
ORDER BY id
LIMIT $2;

-- name: list_with_terms
-- Of the transactions $1 those with terms, or reversed: all others can break nothing more.
SELECT t.id
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN transactions AS t ON t.id = wanted.id
WHERE t.has_terms OR t.status = 'REVERSED' OR t.type NOT IN ('deposit', 'withdrawal', 'transfer');

-- name: list_wrong_journals_among
-- For the transactions $1: journals, and reversals of them, that have no legs, or whose legs do not
-- sum to zero in a currency.
SELECT t.id, l.currency, count(l.transaction_id) AS legs, sum(l.amount) AS total_amount
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN transactions AS t ON t.id = wanted.id
LEFT JOIN transaction_legs AS l ON l.transaction_id = t.id
WHERE
    t.status IN ('COMPLETED', 'REVERSED')
    AND (t.type = 'journal' OR (t.type = 'reversal' AND t.amount IS NULL))
GROUP BY t.id, l.currency
HAVING count(l.transaction_id) = 0 OR sum(l.amount) <> 0
LIMIT $2;

-- name: list_wrong_holds_among
-- For the transactions $1: the holds that they are, capture or release, where those are not right.
WITH named AS MATERIALIZED (
    SELECT DISTINCT CASE WHEN t.type = 'hold' THEN t.id ELSE terms.hold_id END AS id
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
    LEFT JOIN transaction_terms AS terms ON terms.transaction_id = t.id
    WHERE
        t.type IN ('hold', 'capture', 'release') AND t.status IN ('COMPLETED', 'REVERSED')
)

SELECT
    named.id, h.wallet_id, h.amount, h.captured, h.remaining, h.status::text AS status,
    t.id IS NOT NULL AS is_posted, t.source_wallet_id, t.amount AS posted_amount,
    coalesce(c.captured, 0) AS taken
FROM named
LEFT JOIN holds AS h ON h.transaction_id = named.id
LEFT JOIN transactions AS t
    ON t.id = named.id AND t.type = 'hold' AND t.status = 'COMPLETED'
LEFT JOIN LATERAL (
    SELECT sum(capture.amount) AS captured
    FROM transaction_terms AS terms
    INNER JOIN transactions AS capture ON capture.id = terms.transaction_id
    WHERE
        terms.hold_id = named.id
        AND capture.type = 'capture' AND capture.status IN ('COMPLETED', 'REVERSED')
) AS c ON true
WHERE NOT coalesce(
    t.source_wallet_id = h.wallet_id AND t.amount = h.amount
    AND h.captured = coalesce(c.captured, 0)
    AND h.captured::numeric + h.remaining <= h.amount
    AND (h.status = 'OPEN') = (h.remaining > 0),
    false
)
LIMIT $2;

-- name: list_wrong_reversals_among
-- For the transactions $1: what they reverse, and those that are REVERSED, where not exactly that
-- and no more was reversed.
WITH named AS MATERIALIZED (
    SELECT DISTINCT coalesce(t.reverses, t.id) AS id
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
    WHERE (t.reverses IS NOT NULL AND t.status = 'COMPLETED') OR t.status = 'REVERSED'
)

SELECT
    named.id, o.status::text AS status, o.amount, r.reversals,
    coalesce(r.amount, 0) AS reversed_amount
FROM named
LEFT JOIN transactions AS o ON o.id = named.id
CROSS JOIN LATERAL (
    SELECT count(*) AS reversals, count(amount) AS in_part, sum(amount) AS amount
    FROM transactions
    WHERE reverses = named.id AND status = 'COMPLETED'
) AS r
WHERE NOT coalesce(
    CASE
        WHEN o.amount IS NULL THEN
            o.status = 'REVERSED' AND r.reversals = 1 AND r.in_part = 0
        WHEN r.in_part < r.reversals THEN false
        WHEN coalesce(r.amount, 0) = o.amount THEN o.status = 'REVERSED'
        ELSE o.status = 'COMPLETED' AND r.amount < o.amount
    END,
    false
)
LIMIT $2;

-- name: list_unturned_reversals_among
-- For the transactions $1: reversals whose legs are not those of what they reverse the other way
-- round.
SELECT DISTINCT line.id, line.reverses
FROM (
    SELECT r.id, r.reverses, leg.wallet_id, leg.currency, sum(leg.amount) AS amount
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transactions AS r ON r.id = wanted.id
    CROSS JOIN LATERAL (
        SELECT l.wallet_id, l.currency, l.amount FROM transaction_legs AS l
        WHERE l.transaction_id = r.id AND r.amount IS NULL
        UNION ALL
        SELECT l.wallet_id, l.currency, l.amount FROM transaction_legs AS l
        WHERE l.transaction_id = r.reverses AND r.amount IS NULL
        UNION ALL
        -- Of a part only the wallets say what it turns round.
        SELECT w.id, NULL, 1
        FROM (SELECT) AS one
        LEFT JOIN transactions AS o ON o.id = r.reverses
        CROSS JOIN LATERAL (
            VALUES (r.source_wallet_id, o.destination_wallet_id),
            (r.destination_wallet_id, o.source_wallet_id)
        ) AS w (id, wanted_id)
        WHERE r.amount IS NOT NULL AND w.id IS DISTINCT FROM w.wanted_id
    ) AS leg
    WHERE r.reverses IS NOT NULL AND r.status = 'COMPLETED'
    GROUP BY r.id, r.reverses, leg.wallet_id, leg.currency
) AS line
WHERE line.amount <> 0
LIMIT $2;

-- name: list_broken_batches_among
-- For the transactions $1: their atomic batches, where some members are posted or refused, and not
-- all of them alike.
WITH named AS MATERIALIZED (
    SELECT DISTINCT terms.batch_id
    FROM unnest($1::uuid[]) AS wanted (id)
    INNER JOIN transaction_terms AS terms ON terms.transaction_id = wanted.id
    WHERE terms.batch_id IS NOT NULL
)

SELECT named.batch_id, b.members, b.posted, b.failed
FROM named
CROSS JOIN LATERAL (
    SELECT
        count(*) AS members,
        count(*) FILTER (WHERE t.status IN ('COMPLETED', 'REVERSED')) AS posted,
        count(*) FILTER (WHERE t.status = 'FAILED') AS failed
    FROM transaction_terms AS terms
    LEFT JOIN transactions AS t ON t.id = terms.transaction_id
    WHERE terms.batch_id = named.batch_id
) AS b
WHERE b.posted + b.failed > 0 AND b.posted < b.members AND b.failed < b.members
LIMIT $2;

-- name: list_wrong_schedules_among
-- For the transactions $1: those that are SCHEDULED and not on the schedule for their time.
SELECT t.id, true AS is_scheduled, s.execute_at AS listed_at, terms.execute_at
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN transactions AS t ON t.id = wanted.id
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = t.id
LEFT JOIN scheduled_transactions AS s
    ON s.execute_at = terms.execute_at AND s.transaction_id = t.id
WHERE t.status = 'SCHEDULED' AND s.transaction_id IS NULL
LIMIT $2;

-- name: pin_merges
-- What is planned from here on follows the ids of transactions, by which nearly all rows already lie
-- in order: hash tables of a million transactions and their entries took 10.0 s of CPU, sorting and
-- merging them 6.6 s. The order of joins is as written, since nobody can estimate how much an array
-- in a seal names.
SET LOCAL enable_indexscan = on;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_hashagg = off;
SET LOCAL join_collapse_limit = 1;

-- name: pin_lookups
-- What is planned from here on finds few rows by their keys: see `pin_verification`.
SET LOCAL join_collapse_limit = 8;
SET LOCAL enable_nestloop = on;
SET LOCAL enable_indexscan = on;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_material = off;

-- name: read_leaves
-- For each seal the digests of its transactions' rows, one behind the other in the order in which it
-- names them (32 zero bytes where there is none), and how many entries are among the rows. $1 and $2,
-- side by side: numbers of seals, made or to be made, and their transactions. Rows are found by keys.
-- This is format 1, byte for byte (docs/seals.md): it never changes. Only what PostgreSQL itself
-- brings is called: a function of ours could be replaced.
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
            || CASE WHEN t.amount IS NOT NULL THEN ''::bytea ELSE coalesce((
                -- What has no amount of its own may have legs. Each is looked up where there is one:
                -- joined, whole tables would be read for a few.
                SELECT string_agg(
                    record_send(row(
                        l.position::bigint, l.wallet_id, l.currency, l.amount, l.is_external,
                        l.sequence
                    ))
                    || coalesce((
                        SELECT record_send(row(
                            e.wallet_id, e.sequence, e.transaction_id, e.amount, e.balance_after,
                            e.created_at
                        ))
                        FROM entries AS e
                        WHERE e.wallet_id = l.wallet_id AND e.sequence = l.sequence
                    ), ''::bytea),
                    ''::bytea ORDER BY l.position
                )
                FROM transaction_legs AS l
                WHERE l.transaction_id = t.id
            ), ''::bytea) END
        ) END AS digest,
        num_nonnulls(debit.wallet_id, credit.wallet_id)
        + CASE WHEN t.amount IS NOT NULL THEN 0 ELSE (
            SELECT count(l.sequence) FROM transaction_legs AS l WHERE l.transaction_id = t.id
        ) END AS entries
    FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS m (number, id, place)
    LEFT JOIN transactions AS t ON t.id = m.id
    LEFT JOIN entries AS debit
        ON debit.wallet_id = t.source_wallet_id AND debit.sequence = t.source_sequence
    LEFT JOIN entries AS credit
        ON credit.wallet_id = t.destination_wallet_id AND credit.sequence = t.destination_sequence
    OFFSET 0
) AS leaf
GROUP BY leaf.number
ORDER BY leaf.number;

-- name: look_ahead
-- The next transactions of a walk, [$1, $2), at most $3: how many, and the last one. And the pages of
-- `entries` around which theirs lie: entries are appended, so those of transactions that came one
-- after the other are neighbours. One in 32 is looked up; what is far away from most does not count,
-- so that the pages are few, and a guess is all that they are.
WITH walked AS MATERIALIZED (
    SELECT t.id FROM transactions AS t WHERE t.id >= $1 AND t.id < $2 ORDER BY t.id LIMIT $3
),

sampled AS MATERIALIZED (
    SELECT
        (unnest(ARRAY[
            (
                SELECT e.ctid FROM entries AS e
                WHERE e.wallet_id = t.source_wallet_id AND e.sequence = t.source_sequence
            ),
            (
                SELECT e.ctid FROM entries AS e
                WHERE
                    e.wallet_id = t.destination_wallet_id AND e.sequence = t.destination_sequence
            )
        ])::text::point)[0]::bigint AS page
    FROM walked AS w
    INNER JOIN transactions AS t ON t.id = w.id
    WHERE uuid_hash(w.id) & 31 = 0
),

pages AS MATERIALIZED (
    SELECT
        min(s.page) AS first,
        max(s.page) AS last
    FROM sampled AS s
    WHERE
        abs(s.page - (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY o.page) FROM sampled AS o))
        <= 8 + $3 / 40
)

SELECT
    (SELECT count(*) FROM walked) AS seen,
    (SELECT w.id FROM walked AS w ORDER BY w.id DESC LIMIT 1) AS last,
    coalesce(greatest(p.first - 4, 0), 0) AS first_page,
    coalesce(p.last + 5, 0) AS behind_page
FROM pages AS p;

-- name: pin_stretch
-- What is planned from here on reads one stretch of each table, and joins them by hashing: planned
-- for these very stretches each time, since a plan for any would expect a part of the whole table.
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_nestloop = off;
SET LOCAL plan_cache_mode = force_custom_plan;

-- name: unpin_stretch
-- What is planned from here on is planned as ever.
SET LOCAL enable_hashjoin TO DEFAULT;
SET LOCAL enable_nestloop TO DEFAULT;
SET LOCAL plan_cache_mode TO DEFAULT;

-- name: read_stretch
-- All transactions of [$1, $2): those that have ended, in the order of their ids, with their digests as
-- `read_leaves` gives them, and how many entries are among the rows; those that have not, and the
-- first that is PENDING and younger than $5 seconds, which most likely ends within moments. Entries
-- are taken from the pages [$3, $4) of their table. `apart`: what has ended and names an entry that is
-- not there. Its digest, without that entry, is not the one that counts, and its entries are not
-- counted.
SELECT
    array_agg(leaf.id ORDER BY leaf.id) FILTER (WHERE leaf.digest IS NOT NULL) AS ended,
    string_agg(leaf.digest, ''::bytea ORDER BY leaf.id) AS leaves,
    coalesce(
        sum(leaf.entries) FILTER (WHERE leaf.digest IS NOT NULL AND NOT leaf.is_apart), 0
    )::bigint AS entries,
    array_agg(leaf.id ORDER BY leaf.id) FILTER (WHERE leaf.digest IS NOT NULL AND leaf.is_apart)
        AS apart,
    array_agg(leaf.id ORDER BY leaf.id) FILTER (WHERE leaf.digest IS NULL) AS open,
    (array_agg(leaf.id ORDER BY leaf.id) FILTER (WHERE leaf.is_young))[1] AS young
FROM (
    SELECT
        t.id,
        t.status = 'PENDING'
        AND t.created_at > statement_timestamp() - make_interval(secs => $5) AS is_young,
        (t.source_sequence IS NOT NULL AND debit.wallet_id IS NULL)
        OR (t.destination_sequence IS NOT NULL AND credit.wallet_id IS NULL) AS is_apart,
        CASE WHEN t.status IN ('COMPLETED', 'REVERSED', 'FAILED') THEN sha256(
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
            || CASE WHEN t.amount IS NOT NULL THEN ''::bytea ELSE coalesce((
                -- What has no amount of its own may have legs. Each is looked up where there is one:
                -- joined, whole tables would be read for a few.
                SELECT string_agg(
                    record_send(row(
                        l.position::bigint, l.wallet_id, l.currency, l.amount, l.is_external,
                        l.sequence
                    ))
                    || coalesce((
                        SELECT record_send(row(
                            e.wallet_id, e.sequence, e.transaction_id, e.amount, e.balance_after,
                            e.created_at
                        ))
                        FROM entries AS e
                        WHERE e.wallet_id = l.wallet_id AND e.sequence = l.sequence
                    ), ''::bytea),
                    ''::bytea ORDER BY l.position
                )
                FROM transaction_legs AS l
                WHERE l.transaction_id = t.id
            ), ''::bytea) END
        ) END AS digest,
        num_nonnulls(debit.wallet_id, credit.wallet_id)
        + CASE WHEN t.amount IS NOT NULL THEN 0 ELSE (
            SELECT count(l.sequence) FROM transaction_legs AS l WHERE l.transaction_id = t.id
        ) END AS entries
    FROM transactions AS t
    LEFT JOIN entries AS debit
        ON debit.wallet_id = t.source_wallet_id AND debit.sequence = t.source_sequence
        AND debit.amount < 0 AND debit.ctid >= $3 AND debit.ctid < $4
    LEFT JOIN entries AS credit
        ON credit.wallet_id = t.destination_wallet_id AND credit.sequence = t.destination_sequence
        AND credit.amount > 0 AND credit.ctid >= $3 AND credit.ctid < $4
    WHERE t.id >= $1 AND t.id < $2
    OFFSET 0
) AS leaf;

-- name: read_audit_leaves
-- For each seal the digests of its records of the audit log, one behind the other in the order in
-- which it names them (32 zero bytes where there is none). For a seal that is to be made, under the
-- number 0: the records $1; and for those from $2 to $3. This is format 2, byte for byte
-- (docs/seals.md): it never changes.
SELECT
    m.number,
    string_agg(
        CASE WHEN a.id IS NULL THEN decode(repeat('00', 32), 'hex') ELSE sha256(record_send(row(
            a.id, a.occurred_at, a.actor, a.action, a.subject, a.detail::text, a.address,
            a.request_id
        ))) END,
        ''::bytea ORDER BY m.place
    ) AS leaves
FROM (
    SELECT 0::bigint AS number, given.id, given.place
    FROM unnest($1::uuid[]) WITH ORDINALITY AS given (id, place)
    UNION ALL
    SELECT s.number, named.id, named.place
    FROM seals AS s
    CROSS JOIN LATERAL unnest(s.audit_ids) WITH ORDINALITY AS named (id, place)
    WHERE s.number BETWEEN $2 AND $3
) AS m
LEFT JOIN audit_log AS a ON a.id = m.id
GROUP BY m.number;

-- name: stream_leaves
-- The same for all seals, from whole tables that are sorted and merged (`pin_merges`): where the books
-- are right, exactly what `read_leaves` gives. An entry is taken only if it names the transaction, and
-- counted if the transaction names it; so where these differ, the seal shows as wrong here, and
-- `read_leaves` has the last word.
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
            || CASE WHEN t.amount IS NOT NULL THEN ''::bytea ELSE coalesce((
                -- What has no amount of its own may have legs. Each is looked up where there is one:
                -- joined, whole tables would be read for a few.
                SELECT string_agg(
                    record_send(row(
                        l.position::bigint, l.wallet_id, l.currency, l.amount, l.is_external,
                        l.sequence
                    ))
                    || coalesce((
                        SELECT record_send(row(
                            e.wallet_id, e.sequence, e.transaction_id, e.amount, e.balance_after,
                            e.created_at
                        ))
                        FROM entries AS e
                        WHERE e.wallet_id = l.wallet_id AND e.sequence = l.sequence
                    ), ''::bytea),
                    ''::bytea ORDER BY l.position
                )
                FROM transaction_legs AS l
                WHERE l.transaction_id = t.id
            ), ''::bytea) END
        ) END AS digest,
        num_nonnulls(t.source_sequence, t.destination_sequence)
        + CASE WHEN t.amount IS NOT NULL THEN 0 ELSE (
            SELECT count(l.sequence) FROM transaction_legs AS l WHERE l.transaction_id = t.id
        ) END AS entries
    FROM (
        SELECT s.number, named.id, named.place
        FROM seals AS s
        CROSS JOIN LATERAL unnest(s.transaction_ids) WITH ORDINALITY AS named (id, place)
    ) AS m
    LEFT JOIN (
        transactions AS t
        LEFT JOIN entries AS debit
            ON debit.transaction_id = t.id AND debit.amount < 0
            AND debit.wallet_id = t.source_wallet_id AND debit.sequence = t.source_sequence
        LEFT JOIN entries AS credit
            ON credit.transaction_id = t.id AND credit.amount > 0
            AND credit.wallet_id = t.destination_wallet_id
            AND credit.sequence = t.destination_sequence
    ) ON t.id = m.id
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
    number, format, until, transactions, entries, coalesce(cardinality(audit_ids), 0) AS audit_records,
    previous, digest, sealed_at, key_id, signature
FROM seals
WHERE number > $1
ORDER BY number
LIMIT $2;

-- name: list_seal_members
-- What the seals from $1 to $2 name.
SELECT number, transaction_ids FROM seals WHERE number BETWEEN $1 AND $2;

-- name: read_seal_members
-- What one seal names, and the beginnings of its members' digests.
SELECT transaction_ids, leaf_prefixes, audit_ids, audit_leaf_prefixes FROM seals WHERE number = $1;

-- name: count_unsealed
-- Transactions that ended and are in no seal although the walk has passed them, or although that was
-- more than $1 seconds ago; and those that are in more than one.
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT m.id
            FROM seals AS s
            CROSS JOIN LATERAL unnest(s.transaction_ids) AS m (id)
            GROUP BY m.id
            HAVING count(*) > 1
        ) AS doubled
        INNER JOIN transactions AS t ON t.id = doubled.id
        WHERE t.status IN ('COMPLETED', 'REVERSED', 'FAILED')
    ) AS doubled,
    (
        SELECT count(*)
        FROM transactions AS t
        CROSS JOIN seal_progress AS p
        LEFT JOIN unsealed_transactions AS u ON u.transaction_id = t.id
        WHERE
            t.status IN ('COMPLETED', 'REVERSED', 'FAILED')
            AND (
                (t.id < p.walked_until AND u.transaction_id IS NULL)
                OR greatest(t.completed_at, p.began_at) < now() - make_interval(secs => $1)
            )
            AND NOT EXISTS (
                SELECT
                FROM seals AS s
                CROSS JOIN LATERAL unnest(s.transaction_ids) AS m (id)
                WHERE m.id = t.id
            )
    ) AS missing;

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

-- name: list_unsealed_audit
-- Records of the audit log that are in no seal although the walk has passed them, or although they are
-- older than $1 seconds; and those that are in more than one. The oldest $2, and how many in all.
WITH sealed AS (
    SELECT m.id, count(*) AS times
    FROM seals AS s
    CROSS JOIN LATERAL unnest(s.audit_ids) AS m (id)
    GROUP BY m.id
)

SELECT a.id, a.occurred_at, coalesce(sealed.times, 0) AS times, count(*) OVER () AS total
FROM audit_log AS a
CROSS JOIN seal_progress AS p
LEFT JOIN sealed ON sealed.id = a.id
WHERE
    sealed.times > 1
    OR (
        sealed.id IS NULL
        AND (
            a.id < p.audited_until
            OR greatest(a.occurred_at, p.audit_began_at) < now() - make_interval(secs => $1)
        )
    )
ORDER BY a.id
LIMIT $2;
