-- name: drop_ground
-- Ends whoever is still connected.
DROP DATABASE IF EXISTS ackledger_bench WITH (FORCE);

-- name: create_ground
-- A database for one sample.
CREATE DATABASE ackledger_bench;

-- name: drop_pgbench
-- What an earlier run left.
DROP DATABASE IF EXISTS ackledger_pgbench WITH (FORCE);

-- name: create_pgbench
-- The rival's own database: it stays from sample to sample.
CREATE DATABASE ackledger_pgbench;

-- name: read_settings
-- What the server was started with, beside its defaults.
SELECT name, current_setting(name) AS value FROM pg_settings
WHERE
    source = 'configuration file'
    AND name !~ '^(lc_|log_|TimeZone|DateStyle|port|listen_|unix_|password_|default_text)';

-- name: insert_wallets
-- Wallets that may overdraw, so that no deposit has to come first and the books still balance.
INSERT INTO wallets (id, owner_id, currency, overdraft_limit)
SELECT uuid_v7(clock_us(), (n % 16000)::integer), 'bench', 'USD', $2::bigint
FROM generate_series(1, $1::bigint) AS n
RETURNING id;

-- name: settle_tables
-- What autovacuum would do in a while: every sample starts with current statistics.
VACUUM ANALYZE;

-- name: settle_wallets
-- The same where nothing but wallets was laid: autovacuum does not look at empty tables either, and
-- a statement that is planned on one that is known to be empty is planned for that.
VACUUM ANALYZE wallets;

-- name: read_clock
-- The database's clock, by which everything is timed.
SELECT clock_timestamp();

-- name: is_ended
-- Whether the last of the line was posted or refused.
SELECT EXISTS (
    SELECT FROM transactions
    WHERE submitter = $1 AND idempotency_key = $2 AND status <> 'PENDING'
);

-- name: is_told
-- Whether no event is owed.
SELECT NOT EXISTS (SELECT FROM outbox);

-- name: measure_drain
-- What ended since the drain began: how many, the first and the last commit, how many after the
-- first. Bounded by id, since the history before it may be long.
SELECT
    count(*) AS transactions,
    min(completed_at) AS first_at,
    max(completed_at) AS last_at,
    count(*) FILTER (
        WHERE completed_at > (
            SELECT min(completed_at) FROM transactions WHERE id >= $1 AND completed_at >= $2
        )
    ) AS after_first
FROM transactions
WHERE id >= $1 AND completed_at >= $2;

-- name: count_waiting
-- What is not posted yet.
SELECT count(*) FROM transactions WHERE status = 'PENDING';

-- name: count_completed
-- What was completed between two moments.
SELECT count(*) FROM transactions WHERE completed_at >= $1 AND completed_at < $2;

-- name: list_completed
-- Some completed transactions, to be read again.
SELECT id FROM transactions WHERE status = 'COMPLETED' LIMIT $1;

-- name: fill_rival_wallets
-- The rivals' wallets: $1 of them, with $2 in each.
INSERT INTO rival_wallets (id, balance)
SELECT gen_random_uuid(), $2::bigint FROM generate_series(1, $1::bigint)
RETURNING id;

-- name: count_rival_completed
-- How far a rival is.
SELECT count(*) FROM rival_transactions WHERE status <> 'PENDING';

-- name: is_rival_ended
-- Whether it has come to the last of the line: a lookup by a key, so that looking costs it nothing.
SELECT EXISTS (
    SELECT FROM rival_transactions WHERE idempotency_key = $1 AND status <> 'PENDING'
);

-- name: measure_rival
-- The same as for the ledger: the first and the last commit, and how many after the first.
SELECT
    count(*) AS transactions,
    min(completed_at) AS first_at,
    max(completed_at) AS last_at,
    count(*) FILTER (
        WHERE completed_at > (SELECT min(completed_at) FROM rival_transactions)
    ) AS after_first
FROM rival_transactions;

-- name: verify_rival
-- Each disagreement in a rival's books, by the words of what is wrong: wallets began with $1.
WITH chained AS (
    SELECT
        e.*,
        row_number() OVER by_wallet AS position,
        $1::bigint + sum(e.amount) OVER by_wallet AS running
    FROM rival_entries AS e
    WINDOW by_wallet AS (PARTITION BY e.wallet_id ORDER BY e.sequence)
),

sums AS (
    SELECT wallet_id, sum(amount) AS moved, count(*) AS entries FROM rival_entries
    GROUP BY wallet_id
),

legs AS (
    SELECT
        t.id, t.status,
        count(e.wallet_id) AS entries,
        count(e.wallet_id) FILTER (
            WHERE (e.wallet_id = t.source_wallet_id AND e.amount = -t.amount)
            OR (e.wallet_id = t.destination_wallet_id AND e.amount = t.amount)
        ) AS right_entries
    FROM rival_transactions AS t
    LEFT JOIN rival_entries AS e ON e.transaction_id = t.id
    GROUP BY t.id
)

SELECT 'sequence with a gap' AS finding, wallet_id AS subject FROM chained
WHERE position <> sequence
UNION ALL
SELECT 'balance_after is not the sum', wallet_id FROM chained WHERE running <> balance_after
UNION ALL
SELECT 'overdrawn', wallet_id FROM chained WHERE balance_after < 0 AND amount < 0
UNION ALL
SELECT 'balance is not the sum of its entries', w.id
FROM rival_wallets AS w
LEFT JOIN sums AS s ON s.wallet_id = w.id
WHERE w.balance <> $1::bigint + coalesce(s.moved, 0) OR w.version <> coalesce(s.entries, 0)
UNION ALL
SELECT 'entry without a transaction', e.wallet_id
FROM rival_entries AS e
LEFT JOIN rival_transactions AS t ON t.id = e.transaction_id
WHERE t.id IS NULL
UNION ALL
SELECT 'entries do not fit the status ' || status, id FROM legs
WHERE
    status NOT IN ('COMPLETED', 'FAILED')
    OR entries <> right_entries
    OR entries <> CASE status WHEN 'COMPLETED' THEN 2 ELSE 0 END;

-- name: number_wallets
-- Gives every wallet a number, by which the history names it; made anew when there are more.
DROP TABLE IF EXISTS bench_wallets;
CREATE UNLOGGED TABLE bench_wallets AS
SELECT (row_number() OVER (ORDER BY id) - 1)::integer AS number, id
FROM wallets WHERE kind = 'customer';
CREATE UNIQUE INDEX ON bench_wallets (number) INCLUDE (id);
ANALYZE bench_wallets;

-- name: add_history
-- One round of history: each of the $1 wallets sends 1.00 to the one $2 further on. The wallets
-- below get their second entry as senders, the others their first; so the balances return to what
-- they were, and sequences and chains are what posting one after the other would have made.
WITH moment AS MATERIALIZED (
    SELECT clock_us() - $1::bigint AS start_us
),

added AS (
    INSERT INTO transactions (
        id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
        destination_wallet_id, amount, currency, status, source_sequence, destination_sequence,
        created_at, completed_at
    )
    SELECT
        uuid_v7(moment.start_us + s.number, (s.number % 16000)::integer), 'history',
        gen_random_uuid()::text, sha256(convert_to(s.number::text, 'UTF8')), 'http', 'transfer',
        s.id, d.id, 100, 'USD', 'COMPLETED',
        source.version + CASE WHEN s.number >= $2::integer THEN 2 ELSE 1 END,
        -- The receiver's own sending comes later in the round, unless the round has wrapped.
        destination.version + CASE WHEN s.number + $2::integer < $1::bigint THEN 1 ELSE 2 END,
        timestamptz 'epoch' + (moment.start_us + s.number) * interval '1 microsecond',
        timestamptz 'epoch' + (moment.start_us + s.number) * interval '1 microsecond'
    FROM moment, bench_wallets AS s
    INNER JOIN bench_wallets AS d
        ON d.number = ((s.number + $2::integer) % $1::bigint)::integer
    INNER JOIN wallets AS source ON source.id = s.id
    INNER JOIN wallets AS destination ON destination.id = d.id
    ORDER BY s.number
    RETURNING id, source_wallet_id, destination_wallet_id, source_sequence, destination_sequence,
        created_at
),

legs AS (
    SELECT id, source_wallet_id AS wallet_id, source_sequence AS sequence, -100 AS amount,
        created_at
    FROM added
    UNION ALL
    SELECT id, destination_wallet_id, destination_sequence, 100, created_at FROM added
),

new_entries AS (
    INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
    SELECT
        l.wallet_id, l.sequence, l.id, l.amount,
        -- The first of the two moves the balance, the second returns it.
        w.balance + CASE WHEN l.sequence = w.version + 1 THEN l.amount ELSE 0 END,
        l.created_at
    FROM legs AS l
    INNER JOIN wallets AS w ON w.id = l.wallet_id
    ORDER BY l.created_at
)

UPDATE wallets SET version = version + 2, updated_at = clock_timestamp()
WHERE kind = 'customer';

-- name: pass_sweep
-- The history never was anybody's request: reconciler and integrity check begin behind it.
UPDATE sweep_progress SET swept_until = uuid_v7(clock_us()), checked_until = uuid_v7(clock_us());

-- name: count_history
-- How many transactions there are.
SELECT count(*) FROM transactions;

-- name: forget_events
-- What was posted before a sample has no events in it.
DELETE FROM outbox;

-- name: count_customer_wallets
-- How many wallets of customers there are.
SELECT count(*) FROM wallets WHERE kind = 'customer';

-- name: lay_dead_letters
-- Adds what is lacking to $1 dead letters of the submitter $2, which say one of four things.
INSERT INTO dead_letters (
    id, message_id, queue, reason, detail, body, headers, submitter, message_type, content_type
)
SELECT
    uuid_v7(clock_us(), (n % 16000)::integer),
    'bench:' || n,
    'ackledger.transactions.0',
    (ARRAY['not_json', 'invalid_message', 'unknown_version', 'idempotency_key_reused'])[n % 4 + 1],
    (ARRAY[
        format('unexpected character: line 1 column %s (char %s)', n, n),
        format('/amount: ''%s'' is not a decimal; /currency: Field required', n),
        format('version %s is not 1', n),
        format('the key ''order-%s'' stands for other content', n)
    ])[n % 4 + 1],
    '{"version": 1, "type": "transfer", "amount": "1,00", "idempotency_key": "k"}',
    '{}',
    $2::text,
    'transaction.requested.v1',
    'application/json'
FROM generate_series(1, $1::integer) AS n
ON CONFLICT (message_id) DO NOTHING;

-- name: give_wallets
-- Makes somebody the owner of the first $2 wallets.
UPDATE wallets SET owner_id = (SELECT id::text FROM users WHERE email = $1)
WHERE id IN (SELECT id FROM wallets WHERE kind = 'customer' ORDER BY id LIMIT $2);

-- name: lay_users
-- Makes $1 confirmed accounts that share a password, of which $2 is the hash.
INSERT INTO users (id, email, password_hash, status, confirmed_at)
SELECT
    uuid_v7(clock_us(), (n % 16000)::integer),
    format('bench-%s@example.com', n),
    $2::text,
    'ACTIVE',
    clock_timestamp()
FROM generate_series(1, $1::integer) AS n;

-- name: forget_seals
-- Nothing is sealed any more: the guards are the owner's to take away.
DO $$
BEGIN
    ALTER TABLE seals DISABLE TRIGGER seals_append_only;
    GRANT TRUNCATE ON seals TO CURRENT_USER;
    TRUNCATE seals, unsealed_transactions;
    UPDATE seal_progress
    SET
        walked_until = DEFAULT, walked_before = DEFAULT, polled_until = DEFAULT,
        audited_until = DEFAULT, audited_before = DEFAULT;
END
$$;

-- name: count_sealed
-- How many transactions the chain covers.
SELECT coalesce(sum(transactions), 0)::bigint FROM seals;

-- name: read_own_backend
-- The process that serves this connection.
SELECT pg_backend_pid();
