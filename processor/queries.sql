-- name: record_transactions
-- Upstream's requests become PENDING rows, by the same function as the ingress's.
SELECT
    request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $13) AS is_any_unannounced
FROM record_transactions(
    new_channel => 'amqp',
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
    uuid_v7(m.at_us), $1, $2, $3, 'amqp', $4::text::transaction_type, $5, $6, $7, $8, $9,
    $10::text::json, $11, $12, timestamptz 'epoch' + m.at_us * interval '1 microsecond'
FROM moment AS m
ON CONFLICT (submitter, idempotency_key) DO NOTHING
RETURNING
    0 AS request, id, TRUE AS is_new, TRUE AS is_same, TRUE AS is_pending, created_at,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $13) AS is_any_unannounced;

-- name: draft_moves
-- Ids for $3 requests, and their moment, where they are to be recorded as they are posted: whether
-- any of their keys was used before, and whether anything is unannounced. Either takes rows first.
WITH moment AS MATERIALIZED (
    SELECT clock_us() AS at_us
)

SELECT
    transaction_ids(m.at_us, $3::integer) AS ids,
    timestamptz 'epoch' + m.at_us * interval '1 microsecond' AS drafted_at,
    EXISTS (
        SELECT FROM unnest($1::text[], $2::text[]) AS r (submitter, key)
        CROSS JOIN LATERAL (
            SELECT FROM transactions AS t
            WHERE t.submitter = r.submitter AND t.idempotency_key = r.key
            OFFSET 0
        ) AS used
    ) AS is_any_used,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $4) AS is_any_unannounced
FROM moment AS m;

-- name: record_transactions_with_terms
-- The same where some of them have terms.
SELECT
    request, id, is_new, is_same, status = 'PENDING' AS is_pending, created_at,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $14) AS is_any_unannounced
FROM record_transactions_with_terms(
    new_channel => 'amqp',
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

-- name: read_others
-- The transactions that others are to capture, release or reverse.
SELECT id, type::text, source_wallet_id, destination_wallet_id, amount, currency
FROM transactions
WHERE id = ANY ($1::uuid[]);

-- name: read_pending
-- What is still to be posted, without a lock: `write_moves` counts what it changes. First what the
-- ledger needs, then what the events tell. OFFSET 0 keeps the lookup by key: a plan that was made
-- while the table was small would read all of it.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at, t.has_terms,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $2) AS is_any_unannounced
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT one.* FROM transactions AS one WHERE one.id = wanted.id OFFSET 0) AS t
WHERE t.status = 'PENDING';

-- name: read_pending_with_wallets
-- The same with each one's two wallets, as `read_wallets` has them: of a few that come alone one
-- statement less is read than a batch spends on them.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at, t.has_terms,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $2) AS is_any_unannounced,
    s.id AS source_id, s.kind::text AS source_kind, s.currency AS source_currency,
    s.status::text AS source_status, s.balance AS source_balance, s.held AS source_held,
    s.overdraft_limit AS source_overdraft_limit, s.version AS source_version,
    s.row_version AS source_row_version, s.updated_at AS source_updated_at,
    d.id AS destination_id, d.kind::text AS destination_kind, d.currency AS destination_currency,
    d.status::text AS destination_status, d.balance AS destination_balance, d.held AS destination_held,
    d.overdraft_limit AS destination_overdraft_limit, d.version AS destination_version,
    d.row_version AS destination_row_version, d.updated_at AS destination_updated_at
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT one.* FROM transactions AS one WHERE one.id = wanted.id OFFSET 0) AS t
LEFT JOIN LATERAL (
    SELECT one.*, one.xmin AS row_version FROM wallets AS one
    WHERE one.id = t.source_wallet_id
    OFFSET 0
) AS s ON TRUE
LEFT JOIN LATERAL (
    SELECT one.*, one.xmin AS row_version FROM wallets AS one
    WHERE one.id = t.destination_wallet_id
    OFFSET 0
) AS d ON TRUE
WHERE t.status = 'PENDING';

-- name: lock_pending
-- As `read_pending`, locked in id order, after somebody changed them between their reading and their
-- writing. Joined, not `= ANY`: a conflicting row would recheck the whole array.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at, t.has_terms,
    EXISTS (SELECT FROM unannounced_transactions WHERE partition = $2) AS is_any_unannounced
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN transactions AS t ON t.id = wanted.id
WHERE t.status = 'PENDING'
ORDER BY t.id
FOR NO KEY UPDATE OF t;

-- name: read_unannounced
-- What these submitters had accepted before some transaction of theirs ($3: the highest id) and no
-- queue may hold yet: the oldest $4 of each that are still to be posted.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at, t.has_terms, true AS is_any_unannounced
FROM unnest($2::text[], $3::uuid[]) AS before (submitter, id)
CROSS JOIN LATERAL (
    SELECT one.*
    FROM unannounced_transactions AS u
    CROSS JOIN LATERAL (
        SELECT found.* FROM transactions AS found WHERE found.id = u.transaction_id OFFSET 0
    ) AS one
    WHERE
        u.partition = $1
        AND u.submitter = before.submitter
        AND u.transaction_id < before.id
        AND one.status = 'PENDING'
    ORDER BY u.transaction_id
    LIMIT $4
) AS t;

-- name: read_predecessors
-- What the submitters of these transactions had sent over HTTP before each and is still to be posted:
-- on each of its wallets the last such one that is PENDING, then what goes before that, and so on; of
-- $5 in all the oldest $6. Those in between that are posted prove nothing: two that were sent at the
-- same time may be posted either way round. It is looked for among the last $2 transactions of a
-- wallet, and not below the oldest PENDING one: the sweep has put every one below its watermark on
-- the worklist. $3: the currencies' external wallets, which order nothing. $4: whether all are posted
-- by one partition; if not, only those count that the same wallet orders, since others may be posted
-- elsewhere: the source, or of a reversal the destination, which is the source of what it reverses.
-- If all are, the wallets of a journal are those of its legs, and with one member of an atomic batch
-- go its others, since they are posted together: with what goes before each of them.
-- What is held back for review orders nothing: the others go on.
WITH RECURSIVE backlog AS MATERIALIZED (
    SELECT least(
        (SELECT swept_until FROM sweep_progress),
        coalesce(
            (SELECT transaction_id FROM stale_transactions ORDER BY transaction_id LIMIT 1),
            'ffffffff-ffff-ffff-ffff-ffffffffffff'
        )
    ) AS oldest
),

chain AS (
    SELECT
        t.id, t.submitter, t.has_terms,
        CASE WHEN t.type = 'reversal' THEN t.destination_wallet_id ELSE t.source_wallet_id END
            AS source_wallet_id,
        CASE WHEN t.type = 'reversal' THEN t.source_wallet_id ELSE t.destination_wallet_id END
            AS destination_wallet_id
    FROM unnest($1::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT one.* FROM transactions AS one WHERE one.id = wanted.id OFFSET 0
    ) AS t
    UNION
    SELECT
        p.id, p.submitter, p.has_terms,
        CASE WHEN p.type = 'reversal' THEN p.destination_wallet_id ELSE p.source_wallet_id END,
        CASE WHEN p.type = 'reversal' THEN p.source_wallet_id ELSE p.destination_wallet_id END
    FROM chain AS t
    CROSS JOIN LATERAL (
        SELECT w.id FROM unnest(ARRAY[t.source_wallet_id, t.destination_wallet_id]) AS w (id)
        WHERE
            w.id <> ALL ($3::uuid[])
            AND ($4::boolean OR w.id = t.source_wallet_id OR t.source_wallet_id = ANY ($3::uuid[]))
        UNION
        SELECT leg.wallet_id FROM transaction_legs AS leg
        WHERE $4::boolean AND t.has_terms AND leg.transaction_id = t.id AND NOT leg.is_external
        UNION ALL
        -- No wallet: its fellow members are not looked for by one.
        SELECT NULL WHERE $4::boolean AND t.has_terms
    ) AS w
    CROSS JOIN LATERAL (
        (
            SELECT
                s.id, s.type, s.submitter, s.has_terms, s.source_wallet_id,
                s.destination_wallet_id
            FROM (
                SELECT one.* FROM transactions AS one
                WHERE (one.source_wallet_id, one.id) < (w.id, t.id)
                    AND (one.source_wallet_id, one.id)
                        >= (w.id, (SELECT b.oldest FROM backlog AS b))
                ORDER BY one.source_wallet_id DESC, one.id DESC
                LIMIT $2
            ) AS s
            WHERE
                s.submitter = t.submitter
                AND s.channel = 'http'
                AND s.status = 'PENDING'
                AND pending_since(s.id, s.created_at, s.has_terms) IS NOT NULL
                AND (
                    $4::boolean
                    OR s.type <> 'reversal'
                    OR s.destination_wallet_id = ANY ($3::uuid[])
                )
            ORDER BY s.source_wallet_id DESC, s.id DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT
                d.id, d.type, d.submitter, d.has_terms, d.source_wallet_id,
                d.destination_wallet_id
            FROM (
                SELECT one.* FROM transactions AS one
                WHERE (one.destination_wallet_id, one.id) < (w.id, t.id)
                    AND (one.destination_wallet_id, one.id)
                        >= (w.id, (SELECT b.oldest FROM backlog AS b))
                ORDER BY one.destination_wallet_id DESC, one.id DESC
                LIMIT $2
            ) AS d
            WHERE
                d.submitter = t.submitter
                AND d.channel = 'http'
                AND d.status = 'PENDING'
                AND pending_since(d.id, d.created_at, d.has_terms) IS NOT NULL
                AND (
                    $4::boolean
                    OR d.type = 'reversal'
                    OR d.source_wallet_id = ANY ($3::uuid[])
                )
            ORDER BY d.destination_wallet_id DESC, d.id DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT
                j.id, j.type, j.submitter, j.has_terms, j.source_wallet_id,
                j.destination_wallet_id
            FROM (
                SELECT leg.transaction_id FROM transaction_legs AS leg
                WHERE
                    $4::boolean
                    AND (leg.wallet_id, leg.transaction_id) < (w.id, t.id)
                    AND (leg.wallet_id, leg.transaction_id)
                        >= (w.id, (SELECT b.oldest FROM backlog AS b))
                ORDER BY leg.wallet_id DESC, leg.transaction_id DESC
                LIMIT $2
            ) AS leg
            CROSS JOIN LATERAL (
                SELECT one.* FROM transactions AS one WHERE one.id = leg.transaction_id OFFSET 0
            ) AS j
            WHERE j.submitter = t.submitter AND j.channel = 'http' AND j.status = 'PENDING'
            ORDER BY j.id DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT
                m.id, m.type, m.submitter, m.has_terms, m.source_wallet_id,
                m.destination_wallet_id
            FROM transaction_terms AS own
            INNER JOIN transaction_terms AS fellow ON fellow.batch_id = own.batch_id
            CROSS JOIN LATERAL (
                SELECT one.* FROM transactions AS one
                WHERE one.id = fellow.transaction_id
                OFFSET 0
            ) AS m
            WHERE w.id IS NULL AND own.transaction_id = t.id AND m.status = 'PENDING'
        )
    ) AS p
)

SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.idempotency_key, t.submitter, t.channel::text, t.description, t.metadata, t.request_id,
    t.traceparent, t.reverses, t.created_at, t.has_terms, true AS is_any_unannounced
FROM (
    SELECT found.id FROM (SELECT chain.id FROM chain LIMIT $5) AS found
    WHERE found.id <> ALL ($1::uuid[])
    ORDER BY found.id
    LIMIT $6
) AS c
CROSS JOIN LATERAL (SELECT one.* FROM transactions AS one WHERE one.id = c.id OFFSET 0) AS t
WHERE t.status = 'PENDING';

-- name: forget_unannounced
-- What was posted needs no mark any more.
DELETE FROM unannounced_transactions
WHERE partition = $1 AND transaction_id = ANY ($2::uuid[]);

-- name: read_traces
-- What the requests of transactions were called.
SELECT id, request_id, traceparent FROM transactions WHERE id = ANY ($1::uuid[]);

-- name: read_wallets
-- The wallets that no batch before left in memory, without a lock: `write_moves` writes over no
-- other row than the one that was read.
SELECT
    w.id, w.kind::text, w.currency, w.status::text, w.balance, w.held, w.overdraft_limit,
    w.version, w.row_version, w.updated_at
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT one.*, one.xmin AS row_version FROM wallets AS one WHERE one.id = wanted.id OFFSET 0
) AS w;

-- name: lock_wallets
-- The same, locked. Every batch locks in id order, so two batches can never deadlock. The row that is returned is the one that was locked: the newest.
SELECT
    w.id, w.kind::text, w.currency, w.status::text, w.balance, w.held, w.overdraft_limit,
    w.version, w.xmin AS row_version, w.updated_at
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id
ORDER BY w.id
FOR NO KEY UPDATE OF w;

-- name: write_moves
-- A batch of plain moves in one statement; see migrations/0028. What is selected is asked last, with
-- all rows locked: whether the rules are those that the batch was decided under.
SELECT p.moment, p.row_version, p.completed_outbox_id, expect_rules(decided_under => $20)
FROM
    write_moves(
        latest_change => $1,
        wallet_ids => $2,
        balances => $3,
        versions => $4,
        row_versions => $5,
        posted_ids => $6,
        sources => $7,
        destinations => $8,
        amounts => $9,
        source_sequences => $10,
        destination_sequences => $11,
        source_balances => $12,
        destination_balances => $13,
        refused_ids => $14,
        codes => $15,
        details => $16,
        limits => $17::text::json
    ) AS p,
    expect_wallets(wallet_ids => $18, row_versions => $19);

-- name: write_batch_in_turn
-- The same of a batch that others may be written behind, or that is behind another, and of drafts;
-- see migrations/0076.
SELECT p.moment, p.row_version, p.completed_outbox_id, expect_rules(decided_under => $20)
FROM
    write_batch_in_turn(
        latest_change => $1,
        wallet_ids => $2,
        balances => $3,
        versions => $4,
        row_versions => $5,
        posted_ids => $6,
        sources => $7,
        destinations => $8,
        amounts => $9,
        source_sequences => $10,
        destination_sequences => $11,
        source_balances => $12,
        destination_balances => $13,
        refused_ids => $14,
        codes => $15,
        details => $16,
        limits => $17::text::json,
        seen_ids => $18,
        seen_row_versions => $19,
        batch => $21,
        behind => $22,
        drafted_at => $23,
        draft_submitters => $24,
        draft_keys => $25,
        draft_fingerprints => $26,
        draft_types => $27,
        draft_sources => $28,
        draft_destinations => $29,
        draft_amounts => $30,
        draft_currencies => $31,
        draft_descriptions => $32,
        draft_metadatas => $33,
        draft_request_ids => $34,
        draft_traceparents => $35
    ) AS p;

-- name: read_terms
-- What transactions ask for beyond moving an amount.
SELECT * FROM book_terms(ids => $1);

-- name: read_batch_members
-- All members of atomic batches.
SELECT * FROM book_batch_members(batch_ids => $1);

-- name: read_holds
-- These holds, and those of these wallets that are open and have expired.
SELECT * FROM book_holds(ids => $1, wallet_ids => $2, moment => $3);

-- name: read_originals
-- Transactions that are to be reversed.
SELECT * FROM book_originals(ids => $1);

-- name: lock_book_wallets
-- Wallets, locked in id order as every batch does.
SELECT
    w.id, w.kind::text, w.currency, w.status::text, w.balance, w.held, w.overdraft_limit,
    w.version, w.forced_overdraft, w.updated_at
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id
ORDER BY w.id
FOR NO KEY UPDATE OF w;

-- name: read_moment
-- The database's clock, with all locks taken, and which of these transactions were ever held back
-- for review.
SELECT
    clock_timestamp() AS moment,
    ARRAY(
        SELECT r.transaction_id
        FROM unnest($1::uuid[]) AS wanted (id)
        INNER JOIN reviewed_transactions AS r ON r.transaction_id = wanted.id
    ) AS reviewed_ids;

-- name: read_reviews
-- Whether transactions are held back, and which rules operators have overruled for them.
SELECT
    r.transaction_id, r.is_held,
    ARRAY(
        SELECT one.rule_id FROM reviews AS one
        WHERE one.transaction_id = r.transaction_id AND one.state = 'APPROVED'
    ) AS approved
FROM reviewed_transactions AS r
WHERE r.transaction_id = ANY ($1::uuid[]);

-- name: read_clock
-- The database's clock, by which rules count.
SELECT clock_timestamp();

-- name: read_owners
-- Who owns wallets; that never changes.
SELECT id, owner_id FROM wallets WHERE id = ANY ($1::uuid[]);

-- name: lock_counters
-- What rules have counted, locked in the order of the keys, which are an array as a text: the library
-- looks at each element of an array several times.
SELECT c.key, c.bucket, c.amounts
FROM unnest($1::text::text[]) AS wanted (key)
INNER JOIN rule_counters AS c ON c.key = wanted.key
ORDER BY c.key
FOR NO KEY UPDATE OF c;

-- name: make_counters
-- Counters that are not there yet; one that another batch is making is waited for.
INSERT INTO rule_counters (key, bucket, amounts)
SELECT n.key, 0, '0'
FROM unnest($1::text::text[]) AS n (key)
ORDER BY n.key COLLATE "C"
ON CONFLICT (key) DO NOTHING;

-- name: read_seen
-- Which of these pairs of wallets a rule has looked up before, and were posted.
SELECT s.source_wallet_id, s.destination_wallet_id
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (source, destination)
INNER JOIN seen_destinations AS s
    ON s.source_wallet_id = wanted.source AND s.destination_wallet_id = wanted.destination;

-- name: read_seen_in_history
-- Which of them were posted before: looked for among the last $3 transactions that the one has paid,
-- and among the last $3 that the other was paid.
SELECT wanted.source, wanted.destination
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (source, destination)
WHERE
    EXISTS (
        SELECT FROM (
            SELECT t.destination_wallet_id, t.status FROM transactions AS t
            WHERE t.source_wallet_id = wanted.source
            ORDER BY t.source_wallet_id DESC, t.id DESC
            LIMIT $3
        ) AS paid
        WHERE
            paid.destination_wallet_id = wanted.destination
            AND paid.status IN ('COMPLETED', 'REVERSED')
    )
    OR EXISTS (
        SELECT FROM (
            SELECT t.source_wallet_id, t.status FROM transactions AS t
            WHERE t.destination_wallet_id = wanted.destination
            ORDER BY t.destination_wallet_id DESC, t.id DESC
            LIMIT $3
        ) AS got
        WHERE got.source_wallet_id = wanted.source AND got.status IN ('COMPLETED', 'REVERSED')
    );

-- name: write_screening
-- What screening a batch came to; see migrations/0054.
SELECT
    write_screening(
        decided_under => $1,
        moment => $2,
        counter_keys => $3::text::text[],
        buckets => $4::text::bigint[],
        rings => $5::text::text[],
        sources => $6,
        destinations => $7,
        flagged_ids => $8,
        flagged_by => $9,
        held_ids => $10,
        reviewed_ids => $11,
        reviewed_for => $12
    );

-- name: write_book
-- A batch of transactions of every type; see migrations/0027.
SELECT
    write_book(
        moment => $1,
        wallets => $2,
        entries => $3,
        completed => $4,
        legs => $5,
        holds => $6,
        expired_ids => $7,
        reversed_ids => $8,
        refused_ids => $9,
        codes => $10,
        details => $11,
        states => $12::text::json,
        reversal_states => $13::text::json
    ),
    expect_rules(decided_under => $14);

-- name: quarantine
-- Sets one PENDING transaction aside for an operator, with all of its atomic batch, and owes the
-- events. No row if it is not PENDING.
WITH locked AS MATERIALIZED (
    SELECT t.id FROM transactions AS t
    WHERE
        t.status = 'PENDING'
        AND t.id IN (
            SELECT $1::uuid
            UNION ALL
            SELECT other.transaction_id
            FROM transaction_terms AS own
            INNER JOIN transaction_terms AS other ON other.batch_id = own.batch_id
            WHERE own.transaction_id = $1
        )
    ORDER BY t.id
    FOR NO KEY UPDATE OF t
)

SELECT $1::uuid AS id
FROM (SELECT array_agg(id) AS ids FROM locked) AS named
WHERE $1 = ANY (named.ids)
    AND end_transactions(
        moment => clock_timestamp(),
        ids => named.ids,
        from_status => 'PENDING',
        to_status => 'QUARANTINED',
        codes => array_fill(NULL::text, ARRAY[cardinality(named.ids)]),
        details => array_fill(NULL::text, ARRAY[cardinality(named.ids)])
    ) IS NOT NULL;

-- name: probe
-- Whether posting has a chance again: a migrated database that takes writes. A former primary that
-- became a standby answers, and is of no use.
SELECT
    current_setting('transaction_read_only') = 'off'
    AND to_regclass('transactions') IS NOT NULL AS is_usable;

-- name: read_transactions
-- Whole transactions, for results and events.
SELECT * FROM transaction_views WHERE id = ANY ($1::uuid[]);

-- name: claim_outbox
-- Claims the oldest owed events that no other relay has claimed, from an age of $2 seconds, for $4
-- seconds. Never by `id > last`: they commit out of order. A claim that a crash forgets costs a
-- duplicate at most, so nobody waits for the disk.
WITH oldest AS MATERIALIZED (
    SELECT id
    FROM outbox
    WHERE
        created_at <= clock_timestamp() - make_interval(secs => $2)
        AND (claimed_until IS NULL OR claimed_until <= clock_timestamp() OR claimed_by = $3)
    ORDER BY id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)

UPDATE outbox AS o
SET claimed_by = $3, claimed_until = clock_timestamp() + make_interval(secs => $4)
FROM oldest
WHERE o.id = oldest.id
RETURNING
    o.id, o.event_type, o.transaction_ids, o.created_at, o.origin_id, o.wallets,
    extract(EPOCH FROM clock_timestamp() - o.created_at)::double precision AS age_s,
    set_config('synchronous_commit', 'off', true);

-- name: renew_outbox
-- Goes on holding what a round has in hand for longer than it was claimed for.
UPDATE outbox SET claimed_until = clock_timestamp() + make_interval(secs => $3)
WHERE id = ANY ($1::uuid[]) AND claimed_by = $2;

-- name: release_outbox
-- Lets go of what a round did not get to: the next one, or another relay, need not wait.
UPDATE outbox SET claimed_by = NULL, claimed_until = NULL
WHERE id = ANY ($1::uuid[]) AND claimed_by = $2;

-- name: delete_outbox
-- Confirmed events are owed no longer. What another relay has claimed since is that one's. A crash
-- that forgets it costs duplicates, so nobody waits for the disk.
DELETE FROM outbox WHERE id = ANY ($1::uuid[]) AND claimed_by = $2
RETURNING set_config('synchronous_commit', 'off', true);

-- name: end_outbox
-- The same where not all went well: events that a queue refused ($3 to $5) get in line for another
-- try, and those that are set aside ($6 to $10) become dead letters. Their rows leave in this commit.
WITH ended AS (
    DELETE FROM outbox WHERE id = ANY ($1::uuid[]) AND claimed_by = $2
    RETURNING id, coalesce(origin_id, id) AS origin_id, event_type, created_at, wallets
),

moment AS MATERIALIZED (
    SELECT clock_us() AS at_us
),

refused AS (
    SELECT
        r.outbox_id, r.routing_key, array_agg(r.transaction_id ORDER BY r.position) AS ids,
        min(r.position) AS position
    FROM unnest($3::uuid[], $4::text[], $5::uuid[]) WITH ORDINALITY
        AS r (outbox_id, routing_key, transaction_id, position)
    GROUP BY r.outbox_id, r.routing_key
),

in_line AS (
    INSERT INTO refused_events (
        id, routing_key, origin_id, event_type, transaction_ids, occurred_at, refused_at, wallets
    )
    SELECT
        uuid_v7(moment.at_us, refused.position::integer), refused.routing_key, ended.origin_id,
        ended.event_type, refused.ids, ended.created_at, clock_timestamp(), ended.wallets
    FROM refused
    INNER JOIN ended ON ended.id = refused.outbox_id
    CROSS JOIN moment
),

set_aside AS (
    INSERT INTO dead_letters (
        id, message_id, queue, reason, detail, body, headers, submitter, message_type, content_type
    )
    SELECT
        uuid_v7(moment.at_us, s.position::integer),
        'event:' || s.outbox_id || ':' || s.transaction_id,
        'ackledger.events', s.reason, s.detail, s.body, '{}',
        (SELECT t.submitter FROM transactions AS t WHERE t.id = s.transaction_id),
        'transaction.' || ended.event_type || '.v1', 'application/json'
    FROM unnest($6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::bytea[]) WITH ORDINALITY
        AS s (outbox_id, transaction_id, reason, detail, body, position)
    INNER JOIN ended ON ended.id = s.outbox_id
    CROSS JOIN moment
    ON CONFLICT (message_id) DO NOTHING
)

SELECT count(*) AS ended FROM ended;

-- name: list_refused
-- The routing keys that events wait under: one step of the index each, however many events wait.
WITH RECURSIVE lines AS (
    (SELECT routing_key FROM refused_events ORDER BY routing_key LIMIT 1)
    UNION ALL
    SELECT (
        SELECT r.routing_key FROM refused_events AS r
        WHERE r.routing_key > lines.routing_key ORDER BY r.routing_key LIMIT 1
    )
    FROM lines
    WHERE lines.routing_key IS NOT NULL
)

SELECT routing_key FROM lines WHERE routing_key IS NOT NULL;

-- name: claim_refused
-- Claims the first of a line that is at least $4 seconds in it, and that no other relay has claimed.
WITH first AS MATERIALIZED (
    SELECT id
    FROM refused_events
    WHERE
        routing_key = $1
        AND (claimed_until IS NULL OR claimed_until <= clock_timestamp() OR claimed_by = $2)
        AND refused_at <= clock_timestamp() - make_interval(secs => $4)
    ORDER BY routing_key, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)

UPDATE refused_events AS r
SET claimed_by = $2, claimed_until = clock_timestamp() + make_interval(secs => $3)
FROM first
WHERE r.id = first.id
RETURNING
    r.id, r.origin_id, r.event_type, r.transaction_ids, r.occurred_at, r.attempts, r.wallets,
    set_config('synchronous_commit', 'off', true);

-- name: settle_refused
-- What is left of a claimed row of the line ($3), to be tried again; none: the row leaves the line.
-- Those of its events that are set aside ($4 to $7) become dead letters in this commit.
WITH held AS (
    SELECT id, event_type FROM refused_events WHERE id = $1 AND claimed_by = $2 FOR UPDATE
),

moment AS MATERIALIZED (
    SELECT clock_us() AS at_us
),

done AS (
    DELETE FROM refused_events AS r
    USING held
    WHERE r.id = held.id AND cardinality($3::uuid[]) = 0
),

kept AS (
    UPDATE refused_events AS r
    SET
        transaction_ids = $3, attempts = r.attempts + 1, claimed_by = NULL, claimed_until = NULL
    FROM held
    WHERE r.id = held.id AND cardinality($3::uuid[]) > 0
)

INSERT INTO dead_letters (
    id, message_id, queue, reason, detail, body, headers, submitter, message_type, content_type
)
SELECT
    uuid_v7(moment.at_us, s.position::integer), 'event:' || held.id || ':' || s.transaction_id,
    'ackledger.events', s.reason, s.detail, s.body, '{}',
    (SELECT t.submitter FROM transactions AS t WHERE t.id = s.transaction_id),
    'transaction.' || held.event_type || '.v1', 'application/json'
FROM unnest($4::uuid[], $5::text[], $6::text[], $7::bytea[]) WITH ORDINALITY
    AS s (transaction_id, reason, detail, body, position)
CROSS JOIN held
CROSS JOIN moment
ON CONFLICT (message_id) DO NOTHING;
