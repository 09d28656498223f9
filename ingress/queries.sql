-- name: record_transactions
-- A group of submissions becomes PENDING rows, all or none, in one statement.
SELECT request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at
FROM record_transactions(
    new_channel => 'http',
    submitters => $1,
    keys => $2,
    fingerprints => $3,
    types => $4,
    sources => $5,
    destinations => $6,
    amounts => $7,
    currencies => $8,
    descriptions => $9,
    metadatas => $10,
    request_ids => $11,
    traceparents => $12
);

-- name: record_transaction
-- The same for a single plain move, which most groups are at low rates: without the function, in
-- six tenths of the server's time. No row is returned where its key was used before: the function
-- says what became of that one.
WITH moment AS MATERIALIZED (
    SELECT clock_us() AS at_us
)

INSERT INTO transactions (
    id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
    destination_wallet_id, amount, currency, description, metadata, request_id, traceparent,
    created_at
)
SELECT
    uuid_v7(m.at_us), $1, $2, $3, 'http', $4::text::transaction_type, $5, $6, $7, $8, $9,
    $10::text::json, $11, $12, timestamptz 'epoch' + m.at_us * interval '1 microsecond'
FROM moment AS m
ON CONFLICT (submitter, idempotency_key) DO NOTHING
RETURNING
    0 AS request, id, TRUE AS is_new, TRUE AS is_same, TRUE AS is_pending, created_at;

-- name: record_transactions_with_terms
-- The same for a group of which some are more than plain moves.
SELECT request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at
FROM record_transactions_with_terms(
    new_channel => 'http',
    submitters => $1,
    keys => $2,
    fingerprints => $3,
    types => $4,
    sources => $5,
    destinations => $6,
    amounts => $7,
    currencies => $8,
    descriptions => $9,
    metadatas => $10,
    request_ids => $11,
    traceparents => $12,
    terms => $13
);

-- name: insert_cancellation
-- Claims an idempotency key for a cancellation; nothing is returned when it was claimed before.
INSERT INTO cancellations (submitter, idempotency_key, transaction_id) VALUES ($1, $2, $3)
ON CONFLICT (submitter, idempotency_key) DO NOTHING
RETURNING transaction_id;

-- name: read_cancellation
-- What was cancelled under a key.
SELECT transaction_id FROM cancellations WHERE submitter = $1 AND idempotency_key = $2;

-- name: lock_with_batch
-- A transaction, to cancel it, and the other members of its atomic batch.
SELECT t.id, t.status::text
FROM transactions AS t
WHERE t.id IN (
    SELECT $1::uuid
    UNION ALL
    SELECT other.transaction_id
    FROM transaction_terms AS own
    INNER JOIN transaction_terms AS other ON other.batch_id = own.batch_id
    WHERE own.transaction_id = $1::uuid
)
ORDER BY t.id
FOR NO KEY UPDATE;

-- name: end_cancelled
-- Cancelled transactions are FAILED, with their events.
SELECT end_transactions(
    moment => clock_timestamp(),
    ids => $1,
    from_status => 'SCHEDULED',
    to_status => 'FAILED',
    codes => $2,
    details => $3
);

-- name: delete_schedule
-- They are not to be executed any more.
DELETE FROM scheduled_transactions AS s
USING transaction_terms AS t
WHERE t.transaction_id = ANY ($1::uuid[])
    AND s.execute_at = t.execute_at
    AND s.transaction_id = t.transaction_id;

-- name: mark_unannounced
-- Remembers, where posting looks, what is accepted without the broker's confirm. What is posted
-- already needs no mark: the announcement had arrived.
INSERT INTO unannounced_transactions (partition, submitter, transaction_id)
SELECT m.partition, m.submitter, m.transaction_id
FROM unnest($1::integer[], $2::text[], $3::uuid[]) AS m (partition, submitter, transaction_id)
INNER JOIN transactions AS t ON t.id = m.transaction_id
WHERE t.status = 'PENDING'
ORDER BY m.partition, m.submitter, m.transaction_id
ON CONFLICT (partition, submitter, transaction_id) DO NOTHING;

-- name: read_transactions
-- Whole transactions by id; many readers of one instant share one query.
SELECT * FROM transaction_views WHERE id = ANY ($1::uuid[]);

-- name: read_final
-- Those of the awaited transactions that have reached their end.
SELECT * FROM transaction_views
WHERE id = ANY ($1::uuid[]) AND status IN ('COMPLETED', 'FAILED', 'REVERSED');

-- name: read_waiting
-- What one submitter's transaction waits for: its mark, the reconciler's work on it, and its reviews.
SELECT
    EXISTS (
        SELECT
        FROM partition_layout AS l
        CROSS JOIN LATERAL generate_series(0, l.partitions - 1) AS p (number)
        INNER JOIN unannounced_transactions AS u
            ON u.partition = p.number AND u.submitter = $2 AND u.transaction_id = $1
    ) AS is_unannounced,
    coalesce(s.attempts, 0) AS attempts,
    s.next_attempt_at,
    ARRAY(SELECT r.id FROM reviews AS r WHERE r.transaction_id = $1 ORDER BY r.id) AS review_ids
FROM (VALUES ($1::uuid)) AS wanted (id)
LEFT JOIN stale_transactions AS s ON s.transaction_id = wanted.id;

-- name: find_transaction_by_key
-- One submitter's transaction under a key.
SELECT id FROM transactions WHERE submitter = $1 AND idempotency_key = $2;

-- name: examine_transactions
-- A bounded window of all transactions, newest first: its matches, and where it ended.
WITH examined AS MATERIALIZED (
    SELECT t.id, t.status, t.type
    FROM transactions AS t
    WHERE t.id < $1 AND t.id >= $2
    ORDER BY t.id DESC
    LIMIT $3
)

SELECT
    e.id,
    ($4::text IS NULL OR e.status = $4::text::transaction_status)
    AND ($5::text IS NULL OR e.type = $5::text::transaction_type) AS is_match
FROM examined AS e
ORDER BY e.id DESC;

-- name: examine_wallet_transactions
-- The same window over one wallet's transactions: both sides are ranges of their index, and so are
-- the legs of journals, of which one may name the wallet several times. Compared and ordered as
-- pairs, so that no estimate can lead the planner to walk the primary key instead.
WITH examined AS MATERIALIZED (
    (
        SELECT t.id, t.status, t.type
        FROM transactions AS t
        WHERE (t.source_wallet_id, t.id) < ($6::uuid, $1::uuid)
            AND (t.source_wallet_id, t.id) >= ($6::uuid, $2::uuid)
        ORDER BY t.source_wallet_id DESC, t.id DESC
        LIMIT $3
    )
    UNION
    (
        SELECT t.id, t.status, t.type
        FROM transactions AS t
        WHERE (t.destination_wallet_id, t.id) < ($6::uuid, $1::uuid)
            AND (t.destination_wallet_id, t.id) >= ($6::uuid, $2::uuid)
        ORDER BY t.destination_wallet_id DESC, t.id DESC
        LIMIT $3
    )
    UNION
    (
        SELECT t.id, t.status, t.type
        FROM (
            SELECT DISTINCT ON (leg.wallet_id, leg.transaction_id) leg.transaction_id
            FROM transaction_legs AS leg
            WHERE (leg.wallet_id, leg.transaction_id) < ($6::uuid, $1::uuid)
                AND (leg.wallet_id, leg.transaction_id) >= ($6::uuid, $2::uuid)
            ORDER BY leg.wallet_id DESC, leg.transaction_id DESC
            LIMIT $3
        ) AS named
        CROSS JOIN LATERAL (
            SELECT one.* FROM transactions AS one WHERE one.id = named.transaction_id OFFSET 0
        ) AS t
    )
    ORDER BY id DESC
    LIMIT $3
)

SELECT
    e.id,
    ($4::text IS NULL OR e.status = $4::text::transaction_status)
    AND ($5::text IS NULL OR e.type = $5::text::transaction_type) AS is_match
FROM examined AS e
ORDER BY e.id DESC;

-- name: examine_few_wallets_transactions
-- The same window over several wallets, each a range of its index.
WITH mine AS MATERIALIZED (
    SELECT id FROM unnest($6::uuid[]) AS w (id)
),

examined AS MATERIALIZED (
    (
        SELECT t.id, t.status, t.type
        FROM mine AS m
        CROSS JOIN LATERAL (
            SELECT one.id, one.status, one.type
            FROM transactions AS one
            WHERE (one.source_wallet_id, one.id) < (m.id, $1::uuid)
                AND (one.source_wallet_id, one.id) >= (m.id, $2::uuid)
            ORDER BY one.source_wallet_id DESC, one.id DESC
            LIMIT $3
        ) AS t
    )
    UNION
    (
        SELECT t.id, t.status, t.type
        FROM mine AS m
        CROSS JOIN LATERAL (
            SELECT one.id, one.status, one.type
            FROM transactions AS one
            WHERE (one.destination_wallet_id, one.id) < (m.id, $1::uuid)
                AND (one.destination_wallet_id, one.id) >= (m.id, $2::uuid)
            ORDER BY one.destination_wallet_id DESC, one.id DESC
            LIMIT $3
        ) AS t
    )
    UNION
    (
        SELECT t.id, t.status, t.type
        FROM mine AS m
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (leg.wallet_id, leg.transaction_id) leg.transaction_id
            FROM transaction_legs AS leg
            WHERE (leg.wallet_id, leg.transaction_id) < (m.id, $1::uuid)
                AND (leg.wallet_id, leg.transaction_id) >= (m.id, $2::uuid)
            ORDER BY leg.wallet_id DESC, leg.transaction_id DESC
            LIMIT $3
        ) AS named
        CROSS JOIN LATERAL (
            SELECT one.* FROM transactions AS one WHERE one.id = named.transaction_id OFFSET 0
        ) AS t
    )
    ORDER BY id DESC
    LIMIT $3
)

SELECT
    e.id,
    ($4::text IS NULL OR e.status = $4::text::transaction_status)
    AND ($5::text IS NULL OR e.type = $5::text::transaction_type) AS is_match
FROM examined AS e
ORDER BY e.id DESC;

-- name: find_seen
-- Those of these transactions that a holder submitted, or that touch a wallet of theirs.
SELECT t.id
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT one.* FROM transactions AS one WHERE one.id = wanted.id OFFSET 0) AS t
WHERE
    t.submitter = $2::text
    OR EXISTS (
        SELECT
        FROM (
            SELECT named.id FROM (
                VALUES (t.source_wallet_id), (t.destination_wallet_id)
            ) AS named (id)
            UNION ALL
            SELECT leg.wallet_id
            FROM transaction_legs AS leg
            WHERE t.has_terms AND leg.transaction_id = t.id
        ) AS touched
        WHERE
            EXISTS (
                SELECT FROM wallets AS w
                WHERE w.id = touched.id AND (w.created_by = $2::text OR w.owner_id = $3::text)
            )
            OR EXISTS (
                SELECT FROM wallet_grants AS g
                WHERE g.client = $2::text AND g.wallet_id = touched.id
            )
    );

-- name: find_with_metadata
-- Those of these transactions whose metadata has a member of this name with this value, as text.
SELECT t.id
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT one.id, one.metadata FROM transactions AS one WHERE one.id = wanted.id OFFSET 0
) AS t
WHERE t.metadata ->> $2::text = $3::text;

-- name: examine_exceptional_transactions
-- The same window over the rare states, which have a table of their own.
WITH examined AS MATERIALIZED (
    SELECT x.transaction_id AS id
    FROM exceptional_transactions AS x
    WHERE x.status = $4::text::transaction_status AND x.transaction_id < $1
        AND x.transaction_id >= $2
    ORDER BY x.transaction_id DESC
    LIMIT $3
)

SELECT e.id, $5::text IS NULL OR t.type = $5::text::transaction_type AS is_match
FROM examined AS e
INNER JOIN transactions AS t ON t.id = e.id
ORDER BY e.id DESC;

-- name: count_backlog
-- What waits for posting above a floor, up to a bound, and the oldest of it; not what is held back for
-- review, which no processor makes less. In id order, so the floor rises with the work that is done.
WITH pending AS (
    SELECT t.id
    FROM transactions AS t
    WHERE
        t.id >= $1
        AND t.status = 'PENDING'
        AND pending_since(t.id, t.created_at, t.has_terms) IS NOT NULL
    ORDER BY t.id
    LIMIT $2
)

SELECT
    (SELECT count(*) FROM pending) AS waiting,
    (SELECT p.id FROM pending AS p ORDER BY p.id LIMIT 1) AS oldest,
    clock_timestamp() AS now;

-- name: insert_external_wallet
-- The other side of a currency's deposits and withdrawals exists before its first customer wallet.
INSERT INTO wallets (id, currency, kind) VALUES ($1, $2, 'external') ON CONFLICT (id) DO NOTHING;

-- name: insert_wallet_request
-- Claims an idempotency key for a wallet; nothing is returned when it was claimed before.
INSERT INTO wallet_requests (submitter, idempotency_key, fingerprint, wallet_id)
VALUES ($1, $2, $3, uuid_v7(clock_us()))
ON CONFLICT (submitter, idempotency_key) DO NOTHING
RETURNING wallet_id;

-- name: read_wallet_request
-- What was claimed under a key.
SELECT wallet_id, fingerprint FROM wallet_requests WHERE submitter = $1 AND idempotency_key = $2;

-- name: lock_owner_and_currency
-- Lets those who make a wallet for one owner in one currency take turns, until they commit.
SELECT pg_advisory_xact_lock(hashtextextended($1::text || ' ' || $2::text, 0));

-- name: count_owner_wallets
-- How many open wallets an owner has in a currency, counted up to a bound.
SELECT count(*)
FROM (
    SELECT FROM wallets AS w
    WHERE w.owner_id = $1 AND w.currency = $2 AND w.kind = 'customer' AND w.status <> 'CLOSED'
    LIMIT $3
) AS own;

-- name: insert_wallet
-- A wallet of a customer or of the house, empty.
INSERT INTO wallets (id, owner_id, currency, kind, overdraft_limit, metadata, created_by)
VALUES (coalesce($1, uuid_v7(clock_us())), $2, $3, $4::text::wallet_kind, $5, $6::text::json, $7)
RETURNING
    id, owner_id, currency, kind, balance, held, overdraft_limit, status, version, metadata,
    created_at, updated_at, deleted_at;

-- name: read_wallet
-- One wallet, locked or just made. Columns are named here, since a statement that was prepared for
-- all of them breaks in the middle of a database transaction when the next release adds one.
-- `recorded_held` counts holds that have expired until posting or the reconciler has written that.
SELECT
    id, owner_id, currency, kind, balance, held_now(id, held) AS held, overdraft_limit, status,
    version, metadata, created_at, updated_at, deleted_at, held AS recorded_held
FROM wallets
WHERE id = $1;

-- name: lock_wallet
-- One wallet, to change it: with its lock nobody changes its holds. What it is like then is read by
-- the next statement.
SELECT id FROM wallets WHERE id = $1 FOR NO KEY UPDATE;

-- name: change_wallet
-- A wallet's new state, limit and metadata; its time never runs backwards.
UPDATE wallets
SET
    status = $2::text::wallet_status,
    overdraft_limit = $3,
    metadata = $4::text::json,
    updated_at = greatest(clock_timestamp(), updated_at)
WHERE id = $1
RETURNING
    id, owner_id, currency, kind, balance, held_now(id, held) AS held, overdraft_limit, status,
    version, metadata, created_at, updated_at, deleted_at;

-- name: delete_wallet
-- Closes a wallet and hides it from lists; its row stays, for its history.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
)

UPDATE wallets AS w
SET
    status = 'CLOSED',
    deleted_at = greatest(m.now, w.updated_at),
    updated_at = greatest(m.now, w.updated_at)
FROM moment AS m
WHERE w.id = $1;

-- name: examine_wallets
-- A bounded window of all wallets, oldest first; external ones are never a match.
WITH examined AS MATERIALIZED (
    SELECT w.id, w.currency, w.status, w.kind, w.deleted_at
    FROM wallets AS w
    WHERE w.id > $1
    ORDER BY w.id
    LIMIT $2
)

SELECT
    e.id,
    e.kind <> 'external'
    AND ($3::text IS NULL OR e.currency = $3)
    AND ($4::text IS NULL OR e.status = $4::text::wallet_status)
    AND ($5::text IS NULL OR e.kind = $5::text::wallet_kind)
    AND ($6::boolean OR e.deleted_at IS NULL) AS is_match
FROM examined AS e
ORDER BY e.id;

-- name: examine_owner_wallets
-- The same window over one owner's wallets.
WITH examined AS MATERIALIZED (
    SELECT w.id, w.currency, w.status, w.kind, w.deleted_at
    FROM wallets AS w
    WHERE w.owner_id IS NOT NULL
        AND (w.owner_id, w.id) > ($7::text, $1::uuid)
        AND (w.owner_id, w.id) <= ($7::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
    ORDER BY w.owner_id, w.id
    LIMIT $2
)

SELECT
    e.id,
    e.kind <> 'external'
    AND ($3::text IS NULL OR e.currency = $3)
    AND ($4::text IS NULL OR e.status = $4::text::wallet_status)
    AND ($5::text IS NULL OR e.kind = $5::text::wallet_kind)
    AND ($6::boolean OR e.deleted_at IS NULL) AS is_match
FROM examined AS e
ORDER BY e.id;

-- name: examine_holders_wallets
-- The same window over the wallets that a submitter made, those that a person owns, and those that
-- are granted: each is a range of its index.
WITH examined AS MATERIALIZED (
    (
        SELECT w.id
        FROM wallets AS w
        WHERE w.created_by IS NOT NULL
            AND (w.created_by, w.id) > ($7::text, $1::uuid)
            AND (w.created_by, w.id) <= ($7::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
        ORDER BY w.created_by, w.id
        LIMIT $2
    )
    UNION
    (
        SELECT w.id
        FROM wallets AS w
        WHERE w.owner_id IS NOT NULL
            AND (w.owner_id, w.id) > ($8::text, $1::uuid)
            AND (w.owner_id, w.id) <= ($8::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
        ORDER BY w.owner_id, w.id
        LIMIT $2
    )
    UNION
    (
        SELECT g.wallet_id
        FROM wallet_grants AS g
        WHERE (g.client, g.wallet_id) > ($7::text, $1::uuid)
            AND (g.client, g.wallet_id) <= ($7::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
        ORDER BY g.client, g.wallet_id
        LIMIT $2
    )
    ORDER BY id
    LIMIT $2
)

SELECT
    e.id,
    w.kind <> 'external'
    AND ($3::text IS NULL OR w.currency = $3)
    AND ($4::text IS NULL OR w.status = $4::text::wallet_status)
    AND ($5::text IS NULL OR w.kind = $5::text::wallet_kind)
    AND ($6::boolean OR w.deleted_at IS NULL)
    AND ($9::text IS NULL OR w.owner_id = $9) IS TRUE AS is_match
FROM examined AS e
CROSS JOIN LATERAL (SELECT one.* FROM wallets AS one WHERE one.id = e.id OFFSET 0) AS w
ORDER BY e.id;

-- name: list_holders_wallets
-- The first $3 of the same wallets.
(SELECT w.id FROM wallets AS w WHERE w.created_by = $1::text ORDER BY w.created_by, w.id LIMIT $3)
UNION
(SELECT w.id FROM wallets AS w WHERE w.owner_id = $2::text ORDER BY w.owner_id, w.id LIMIT $3)
UNION
(
    SELECT g.wallet_id FROM wallet_grants AS g
    WHERE g.client = $1::text
    ORDER BY g.client, g.wallet_id
    LIMIT $3
)
LIMIT $3;

-- name: read_wallets
-- Whole wallets by id; many readers of one instant share one query.
SELECT
    id, owner_id, currency, kind, balance, held_now(id, held) AS held, overdraft_limit, status,
    version, metadata, created_at, updated_at, deleted_at
FROM wallets
WHERE id = ANY ($1::uuid[]);

-- name: read_wallet_at
-- One wallet, and what is held of it at a moment of the snapshot.
SELECT
    w.id, w.owner_id, w.currency, w.kind, w.balance,
    w.held - coalesce((
        SELECT sum(h.remaining) FROM holds AS h
        WHERE h.wallet_id = w.id AND h.status = 'OPEN' AND h.expires_at <= $2
    ), 0)::bigint AS held,
    w.overdraft_limit, w.status, w.version, w.metadata, w.created_at, w.updated_at, w.deleted_at
FROM wallets AS w
WHERE w.id = $1;

-- name: examine_holds
-- A bounded window of one wallet's holds, newest first, as they stand at a moment.
WITH examined AS MATERIALIZED (
    SELECT h.transaction_id, h.status, h.expires_at
    FROM holds AS h
    WHERE (h.wallet_id, h.transaction_id) < ($1::uuid, $2::uuid) AND h.wallet_id = $1::uuid
    ORDER BY h.wallet_id DESC, h.transaction_id DESC
    LIMIT $3
)

SELECT
    e.transaction_id,
    $4::text IS NULL
    OR $4::text = CASE
        WHEN e.status = 'OPEN' AND e.expires_at <= $5 THEN 'EXPIRED' ELSE e.status::text
    END AS is_match
FROM examined AS e
ORDER BY e.transaction_id DESC;

-- name: list_open_holds
-- Holds of a wallet that are open behind a place, those first that expire first.
SELECT h.transaction_id, h.expires_at
FROM holds AS h
WHERE h.wallet_id = $1 AND h.status = 'OPEN' AND h.expires_at >= $2
    AND (h.expires_at, h.transaction_id) > ($2, $3)
ORDER BY h.expires_at, h.transaction_id
LIMIT $4;

-- name: read_holds
-- Whole holds by id, as they stand at a moment.
SELECT
    h.transaction_id, h.wallet_id, h.destination_wallet_id, h.currency, h.amount, h.captured,
    CASE WHEN h.status = 'OPEN' AND h.expires_at <= $2 THEN 0 ELSE h.remaining END AS remaining,
    CASE
        WHEN h.status = 'OPEN' AND h.expires_at <= $2 THEN 'EXPIRED' ELSE h.status::text
    END AS status,
    h.expires_at, t.created_at
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN holds AS h ON h.transaction_id = wanted.id
INNER JOIN transactions AS t ON t.id = wanted.id;

-- name: read_book_holds
-- What a preview rests on: these holds, and those of these wallets that are open and have expired.
SELECT * FROM book_holds(ids => $1, wallet_ids => $2, moment => $3);

-- name: read_book_originals
-- Transactions that are to be reversed.
SELECT * FROM book_originals(ids => $1);

-- name: read_book_wallets
-- Wallets as posting would find them.
SELECT
    w.id, w.kind::text, w.currency, w.status::text, w.balance, w.held, w.overdraft_limit,
    w.version, w.forced_overdraft
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id;

-- name: read_entry_pages
-- Pages of wallets' entries, each the newest between two sequences, with what their transactions
-- tell. The currency is the wallet's: a journal may have several. OFFSET 0 keeps the lookups by key.
SELECT
    asked.number, e.wallet_id, e.sequence, e.transaction_id, e.amount, e.balance_after,
    e.created_at, t.type, t.description, w.currency
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::integer[])
WITH ORDINALITY AS asked (wallet_id, below, above, most, number)
CROSS JOIN LATERAL (
    SELECT one.currency FROM wallets AS one WHERE one.id = asked.wallet_id OFFSET 0
) AS w
CROSS JOIN LATERAL (
    SELECT
        one.wallet_id, one.sequence, one.transaction_id, one.amount, one.balance_after,
        one.created_at
    FROM entries AS one
    WHERE
        one.wallet_id = asked.wallet_id
        AND one.sequence < asked.below
        AND one.sequence > asked.above
    ORDER BY one.sequence DESC
    LIMIT asked.most
) AS e
CROSS JOIN LATERAL (
    SELECT one.type, one.description
    FROM transactions AS one WHERE one.id = e.transaction_id OFFSET 0
) AS t
ORDER BY asked.number, e.sequence DESC;

-- name: examine_entries
-- A bounded window of one wallet's entries, newest first.
WITH examined AS MATERIALIZED (
    SELECT e.sequence, e.transaction_id
    FROM entries AS e
    WHERE e.wallet_id = $1 AND e.sequence < $2 AND e.sequence > $3
    ORDER BY e.sequence DESC
    LIMIT $4
)

SELECT e.sequence, $5::text IS NULL OR t.type = $5::text::transaction_type AS is_match
FROM examined AS e
INNER JOIN transactions AS t ON t.id = e.transaction_id
ORDER BY e.sequence DESC;

-- name: read_entries
-- Whole entries of one wallet, with what their transactions tell. The currency is the wallet's: a
-- journal may have several.
SELECT
    e.wallet_id, e.sequence, e.transaction_id, e.amount, e.balance_after, e.created_at,
    t.type, t.description, w.currency
FROM entries AS e
INNER JOIN transactions AS t ON t.id = e.transaction_id
INNER JOIN wallets AS w ON w.id = e.wallet_id
WHERE e.wallet_id = $1 AND e.sequence = ANY ($2::bigint[]);

-- name: read_last_sequence
-- The last entry of a wallet at a moment.
SELECT last_sequence_at($1, $2);

-- name: read_balance_at
-- A wallet's balance at a moment, from its entries.
SELECT e.balance_after FROM entries AS e
WHERE e.wallet_id = $1 AND e.sequence = last_sequence_at($1, $2);

-- name: read_clock
-- The database's time: the only clock that orders anything.
SELECT clock_timestamp();

-- name: read_api_keys
-- The clients behind key hashes that are in force.
SELECT key_hash, client, scopes, reach FROM api_keys
WHERE
    key_hash = ANY ($1::bytea[])
    AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > clock_timestamp());

-- name: note_key_use
-- Notes that keys are used, once in $2 seconds, however many processes say so; one that another
-- process is noting is left to it.
UPDATE api_keys AS k
SET last_used_at = clock_timestamp()
FROM (
    SELECT id FROM api_keys
    WHERE
        key_hash = ANY ($1::bytea[])
        AND (
            last_used_at IS NULL OR last_used_at < clock_timestamp() - make_interval(secs => $2)
        )
    FOR NO KEY UPDATE SKIP LOCKED
) AS used
WHERE k.id = used.id;

-- name: list_seals
-- The last $2 seals before the number $1, or of all.
SELECT
    number, until, transactions, coalesce(cardinality(audit_ids), 0) AS audit_records, digest,
    previous, sealed_at, signature, key_id
FROM seals
WHERE number < coalesce($1::bigint, 9223372036854775807)
ORDER BY number DESC
LIMIT $2;

-- name: read_checked
-- How far the integrity check came, and how many findings are kept, counted up to a bound.
SELECT
    p.checked_until,
    (SELECT count(*) FROM (SELECT FROM integrity_findings LIMIT $1) AS counted) AS findings
FROM sweep_progress AS p;

-- name: list_findings
-- Findings behind a check and a subject.
SELECT f.check_name, f.subject, f.detail, f.found_at, f.last_found_at
FROM integrity_findings AS f
WHERE (f.check_name, f.subject) > ($1::text, $2::text)
ORDER BY f.check_name, f.subject
LIMIT $3;

-- name: insert_verification
-- A verification is asked for, unless one is open.
INSERT INTO verifications (requested_by) VALUES ($1)
ON CONFLICT ((ended_at IS NULL)) WHERE ended_at IS NULL DO NOTHING
RETURNING
    id, requested_by, requested_at, started_at, ended_at, rows_done, rows_total, wallets,
    transactions, entries, latest_seal, findings, error;

-- name: read_last_verification
-- The last one that was asked for.
SELECT
    v.id, v.requested_by, v.requested_at, v.started_at, v.ended_at, v.rows_done, v.rows_total,
    v.wallets, v.transactions, v.entries, v.latest_seal, v.findings, v.error
FROM verifications AS v
ORDER BY v.id DESC
LIMIT 1;

-- name: examine_audit
-- A bounded window of the audit log, newest first: its matches, and where it ended. One of the four
-- walks is made: over a range of the index of the filter that lets the fewest through, most likely,
-- or over all.
WITH examined AS MATERIALIZED (
    (
        SELECT a.id, a.actor, a.action, a.subject, a.occurred_at
        FROM audit_log AS a
        WHERE $6::text IS NOT NULL AND (a.subject, a.id) < ($6, $1) AND (a.subject, a.id) >= ($6, $2)
        ORDER BY a.subject DESC, a.id DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT a.id, a.actor, a.action, a.subject, a.occurred_at
        FROM audit_log AS a
        WHERE $6 IS NULL AND $4::text IS NOT NULL
            AND (a.actor, a.id) < ($4, $1) AND (a.actor, a.id) >= ($4, $2)
        ORDER BY a.actor DESC, a.id DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT a.id, a.actor, a.action, a.subject, a.occurred_at
        FROM audit_log AS a
        WHERE $6 IS NULL AND $4 IS NULL AND $5::text IS NOT NULL
            AND (a.action, a.id) < ($5, $1) AND (a.action, a.id) >= ($5, $2)
        ORDER BY a.action DESC, a.id DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT a.id, a.actor, a.action, a.subject, a.occurred_at
        FROM audit_log AS a
        WHERE $6 IS NULL AND $4 IS NULL AND $5 IS NULL AND a.id < $1 AND a.id >= $2
        ORDER BY a.id DESC
        LIMIT $3
    )
)

SELECT
    e.id,
    ($4 IS NULL OR e.actor = $4)
    AND ($5 IS NULL OR e.action = $5)
    AND ($6 IS NULL OR e.subject = $6)
    AND ($7::timestamptz IS NULL OR e.occurred_at >= $7)
    AND ($8::timestamptz IS NULL OR e.occurred_at < $8) AS is_match
FROM examined AS e
ORDER BY e.id DESC;

-- name: read_audit_records
-- Records of the audit log by their ids.
SELECT id, occurred_at, actor, action, subject, detail, address, request_id
FROM audit_log
WHERE id = ANY ($1::uuid[]);

-- name: insert_mail_to_user
-- A mail to a person, whatever mails they want.
INSERT INTO mail_outbox (id, to_address, subject, text)
SELECT uuid_v7(clock_us()), u.email, $2, $3 FROM users AS u WHERE u.id = $1;

-- name: lock_webhooks_of
-- Whoever else is about to make a webhook for a submitter waits until the database transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || $1::text, 0));

-- name: count_webhooks
-- How many webhooks a submitter has.
SELECT count(*) FROM webhooks AS w WHERE w.submitter = $1 AND w.deleted_at IS NULL;

-- name: insert_webhook
-- A new webhook.
INSERT INTO webhooks (
    id, submitter, owner_id, reach, url, event_types, wallet_ids, status
)
VALUES (uuid_v7(clock_us()), $1, $2, $3, $4, $5, $6, $7)
RETURNING id, url, event_types, wallet_ids, status, failing_since, created_at, updated_at;

-- name: insert_webhook_secret
-- What deliveries are signed with from now on.
INSERT INTO webhook_secrets (webhook_id, secret) VALUES ($1, $2);

-- name: retire_webhook_secrets
-- The secrets so far sign for a while; of more than one, the older end now.
WITH retired AS (
    UPDATE webhook_secrets AS s
    SET valid_until = CASE
        WHEN s.valid_until = 'infinity' THEN clock_timestamp() + make_interval(secs => $2)
        ELSE clock_timestamp()
    END
    WHERE s.webhook_id = $1 AND s.valid_until > clock_timestamp()
    RETURNING s.valid_until
)

SELECT max(r.valid_until) FROM retired AS r;

-- name: list_webhooks
-- Webhooks of a submitter, or of all.
SELECT
    w.id, w.url, w.event_types, w.wallet_ids, w.status, w.failing_since, w.created_at,
    w.updated_at
FROM webhooks AS w
WHERE w.id > $2 AND w.deleted_at IS NULL AND ($1::text IS NULL OR w.submitter = $1)
ORDER BY w.id
LIMIT $3;

-- name: list_transaction_webhooks
-- The same of those that have a delivery of an event of one transaction ($4): its id is the first
-- member of that name in what is sent.
WITH told AS MATERIALIZED (
    SELECT DISTINCT d.webhook_id
    FROM webhook_deliveries AS d
    WHERE substr(d.body, strpos(d.body, '"id":"') + 6, 36) = $4::text AND d.webhook_id > $2
)

SELECT
    w.id, w.url, w.event_types, w.wallet_ids, w.status, w.failing_since, w.created_at,
    w.updated_at
FROM told AS t
INNER JOIN webhooks AS w ON w.id = t.webhook_id
WHERE w.deleted_at IS NULL AND ($1::text IS NULL OR w.submitter = $1)
ORDER BY w.id
LIMIT $3;

-- name: read_webhook
-- One webhook, of a submitter or of anybody.
SELECT
    w.id, w.url, w.event_types, w.wallet_ids, w.status, w.failing_since, w.created_at,
    w.updated_at
FROM webhooks AS w
WHERE w.id = $1 AND w.deleted_at IS NULL AND ($2::text IS NULL OR w.submitter = $2);

-- name: lock_webhook
-- The same, to be changed.
SELECT w.id FROM webhooks AS w
WHERE w.id = $1 AND w.deleted_at IS NULL AND ($2::text IS NULL OR w.submitter = $2)
FOR NO KEY UPDATE;

-- name: change_webhook
-- What is null stays, but for the wallets, of which $4 says whether they are changed. Enabled anew, it
-- fails no longer. Whoever reaches less than its maker did ($7) narrows it to that.
UPDATE webhooks AS w
SET
    url = coalesce($2, w.url),
    event_types = coalesce($3::text[], w.event_types),
    wallet_ids = CASE WHEN $4 THEN $5::uuid[] ELSE w.wallet_ids END,
    status = coalesce($6, w.status),
    reach = least(w.reach, $7::reach),
    failing_since = CASE WHEN $6 = 'ACTIVE' THEN NULL ELSE w.failing_since END,
    updated_at = clock_timestamp()
WHERE w.id = $1
RETURNING
    w.id, w.url, w.event_types, w.wallet_ids, w.status, w.failing_since, w.created_at,
    w.updated_at;

-- name: delete_webhook
-- Its deliveries go when their time is over.
UPDATE webhooks
SET deleted_at = clock_timestamp(), updated_at = clock_timestamp(), status = 'DISABLED'
WHERE id = $1;

-- name: examine_deliveries
-- Some of a webhook's deliveries, newest first, and whether each is in the wanted status.
SELECT d.id, $4::text IS NULL OR d.status = $4 AS is_match
FROM webhook_deliveries AS d
WHERE d.webhook_id = $1 AND d.id < $2
ORDER BY d.id DESC
LIMIT $3;

-- name: examine_transaction_deliveries
-- The same of a webhook's deliveries of one transaction's events ($5).
SELECT d.id, $4::text IS NULL OR d.status = $4 AS is_match
FROM webhook_deliveries AS d
WHERE substr(d.body, strpos(d.body, '"id":"') + 6, 36) = $5::text
    AND d.webhook_id = $1 AND d.id < $2
ORDER BY d.id DESC
LIMIT $3;

-- name: read_deliveries
-- Deliveries with their tries as JSON.
SELECT
    d.id, d.webhook_id, substr(d.body, strpos(d.body, '"id":"') + 6, 36) AS transaction_id,
    d.event_id, d.event_type, d.status, d.next_attempt_at, d.created_at, d.delivered_at,
    webhook_tries(d.id) AS tries
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN webhook_deliveries AS d ON d.id = wanted.id;

-- name: resend_delivery
-- Due at once, and begun anew; its number of tries only grows.
UPDATE webhook_deliveries
SET status = 'PENDING', next_attempt_at = clock_timestamp(), retries = 0
WHERE webhook_id = $1 AND id = $2
RETURNING id;

-- name: recover_deliveries
-- What failed since a moment is due again, the oldest first.
WITH failed AS (
    SELECT d.id
    FROM webhook_deliveries AS d
    WHERE d.webhook_id = $1 AND d.created_at >= $2 AND d.status = 'FAILED'
    ORDER BY d.id
    LIMIT $3
    FOR NO KEY UPDATE
),

recovered AS (
    UPDATE webhook_deliveries AS d
    SET status = 'PENDING', next_attempt_at = clock_timestamp(), retries = 0
    FROM failed AS f
    WHERE d.id = f.id
    RETURNING d.id
)

SELECT count(*) FROM recovered;
