-- name: read_horizon
-- The moment before which every transaction's row is there to be seen, and the database's clock.
-- A row's id is made inside a database transaction that may commit later, or, of a draft, half a
-- second before that one's start at most (migrations/0076). So the horizon is a second before the
-- start of the oldest one still running, and what commits late is not skipped; $1 is a second, too,
-- or more. Read before the sweep's own statement, whose snapshot then sees all that had ended by
-- now. One that has had no transaction number for $2 seconds only reads (a backup, `ackledger
-- verify`) and holds nobody up. Sessions of other roles hide their start from whoever may not read
-- all statistics: as long as one of them writes, the horizon is the epoch.
SELECT
    least(
        clock_timestamp() - make_interval(secs => $1),
        (
            SELECT
                CASE
                    WHEN bool_or(a.xact_start IS NULL AND a.backend_xid IS NOT NULL)
                        THEN 'epoch'::timestamptz
                    ELSE min(a.xact_start) - interval '1 second'
                END
            FROM pg_stat_activity AS a
            WHERE
                a.datname = current_database()
                AND a.pid <> pg_backend_pid()
                -- Hidden, too, where the start is.
                AND coalesce(a.backend_type, 'client backend') = 'client backend'
                AND (
                    a.backend_xid IS NOT NULL
                    OR a.xact_start > clock_timestamp() - make_interval(secs => $2)
                )
        )
    ) AS horizon,
    clock_timestamp() AS now;

-- name: lock_progress
-- One sweep moves the watermark at a time.
SELECT swept_until FROM sweep_progress FOR UPDATE;

-- name: sweep_step
-- Walks one bounded stretch of the primary key: [$1, $2), at most $3 rows. What is still PENDING
-- and not held back for review goes to the retry queue, due at once and in the order of acceptance;
-- the watermark moves along.
WITH stretch AS MATERIALIZED (
    SELECT id, status, created_at, has_terms FROM transactions
    WHERE id >= $1 AND id < $2
    ORDER BY id
    LIMIT $3
),

stale AS (
    INSERT INTO stale_transactions (transaction_id, next_attempt_at)
    SELECT id, created_at FROM stretch WHERE status = 'PENDING' AND pending_since(id, created_at, has_terms) IS NOT NULL
    ORDER BY id
    ON CONFLICT (transaction_id) DO NOTHING
    RETURNING transaction_id
),

counted AS (
    SELECT count(*) AS swept FROM stretch
),

moved AS (
    UPDATE sweep_progress
    SET swept_until = CASE
        -- A full stretch may have more behind it: go on at its last row, which is read again.
        WHEN counted.swept = $3 THEN (SELECT id FROM stretch ORDER BY id DESC LIMIT 1)
        ELSE $2
    END
    FROM counted
)

SELECT counted.swept, (SELECT count(*) FROM stale) AS stale FROM counted;

-- name: rewind_progress
-- For a database clock that was set back: what it makes from now on is below the watermarks.
UPDATE sweep_progress
SET swept_until = $1, checked_until = least(checked_until, $1)
WHERE swept_until > $1;

-- name: forget_ended
-- What was published again and is PENDING no longer leaves the retry queue. Only those in flight are
-- looked at: a bounded number.
WITH ended AS (
    DELETE FROM stale_transactions AS s
    USING transactions AS t
    WHERE
        s.next_attempt_at > statement_timestamp()
        AND t.id = s.transaction_id
        AND t.status <> 'PENDING'
    RETURNING s.transaction_id
),

late AS (
    INSERT INTO late_endings (transaction_id)
    SELECT transaction_id FROM ended
    ON CONFLICT (transaction_id) DO NOTHING
)

SELECT count(*) FROM ended;

-- name: lock_claims
-- One at a time counts what is in flight and claims the rest, so that two never fill the same room.
SELECT pg_advisory_xact_lock($1);

-- name: count_in_flight
-- How many were published again and wait for their end.
SELECT count(*) FROM stale_transactions WHERE next_attempt_at > statement_timestamp();

-- name: claim_due
-- Takes the due ones that no other reconciler has in hand, oldest first, at most $1. What is
-- PENDING no longer leaves the retry queue; the rest is due again after a delay that doubles from $2
-- seconds up to $3: claimed before it is published, so that no lock is held meanwhile. Past the age
-- of $4 seconds (never, if null) it is due after $5; then an announcement that was a last call has
-- been in vain when $6 says that consumers have emptied the queues.
WITH due AS MATERIALIZED (
    SELECT transaction_id FROM stale_transactions
    WHERE next_attempt_at <= statement_timestamp()
    ORDER BY next_attempt_at, transaction_id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),

looked_up AS MATERIALIZED (
    SELECT
        due.transaction_id, t.status,
        coalesce(
            pending_since(t.id, t.created_at, t.has_terms)
                < statement_timestamp() - make_interval(secs => $4::double precision),
            false
        ) AS is_too_old
    FROM due
    LEFT JOIN transactions AS t ON t.id = due.transaction_id
),

ended AS (
    DELETE FROM stale_transactions AS s
    USING looked_up
    WHERE
        s.transaction_id = looked_up.transaction_id
        AND looked_up.status IS DISTINCT FROM 'PENDING'
    RETURNING s.transaction_id
),

late AS (
    INSERT INTO late_endings (transaction_id)
    SELECT transaction_id FROM ended
    ON CONFLICT (transaction_id) DO NOTHING
),

claimed AS (
    UPDATE stale_transactions AS s
    SET
        attempts = s.attempts + 1,
        last_calls = s.last_calls + (s.is_last_call AND $6::boolean)::integer,
        is_last_call = false,
        next_attempt_at = statement_timestamp()
            + make_interval(
                secs => CASE
                    WHEN looked_up.is_too_old THEN $5::double precision
                    ELSE least(
                        $3::double precision, $2::double precision * 2.0 ^ least(s.attempts, 30)
                    )
                END
            )
    FROM looked_up
    WHERE s.transaction_id = looked_up.transaction_id AND looked_up.status = 'PENDING'
    RETURNING s.transaction_id, s.last_calls
)

SELECT
    l.transaction_id AS id, l.status = 'PENDING' AS is_pending, l.is_too_old, c.last_calls
FROM looked_up AS l
LEFT JOIN claimed AS c ON c.transaction_id = l.transaction_id
ORDER BY l.transaction_id;

-- name: read_pending
-- What is to be announced of these: those that are PENDING still, with their atomic batches.
SELECT
    p.id, p.source_wallet_id, p.destination_wallet_id, p.currency, p.batch_id,
    t.type = 'reversal' AS is_reversal, t.traceparent
FROM pending_to_announce($1) AS p
INNER JOIN transactions AS t ON t.id = p.id;

-- name: note_last_calls
-- The broker has confirmed the announcement of these, which are past their age.
UPDATE stale_transactions SET is_last_call = true WHERE transaction_id = ANY ($1::uuid[]);

-- name: expire
-- Ends what is still PENDING past its age as FAILED, owes the event, and nudges whoever waits. What
-- a batch has locked is being posted, and left to it; so is what changed since it was claimed. The
-- members of an atomic batch end together: none of them, where one may not. Locks in id order, as
-- posting does.
WITH wanted AS MATERIALIZED (
    SELECT named.id FROM unnest($1::uuid[]) AS named (id)
    UNION
    SELECT other.transaction_id
    FROM unnest($1::uuid[]) AS named (id)
    INNER JOIN transaction_terms AS own ON own.transaction_id = named.id
    INNER JOIN transaction_terms AS other ON other.batch_id = own.batch_id
),

locked AS MATERIALIZED (
    SELECT
        t.id,
        CASE
            WHEN t.has_terms THEN (
                SELECT terms.batch_id FROM transaction_terms AS terms
                WHERE terms.transaction_id = t.id
            )
        END AS batch_id
    FROM wanted
    INNER JOIN transactions AS t ON t.id = wanted.id
    WHERE
        t.status = 'PENDING'
        AND pending_since(t.id, t.created_at, t.has_terms)
            < statement_timestamp() - make_interval(secs => $2)
    ORDER BY t.id
    FOR NO KEY UPDATE OF t SKIP LOCKED
),

parted AS MATERIALIZED (
    SELECT array_agg(l.batch_id) AS batch_ids
    FROM (
        SELECT batch_id, count(*) AS members FROM locked
        WHERE batch_id IS NOT NULL
        GROUP BY batch_id
    ) AS l
    WHERE
        l.members < (SELECT count(*) FROM transaction_terms AS t WHERE t.batch_id = l.batch_id)
),

expired AS MATERIALIZED (
    SELECT
        array_agg(locked.id ORDER BY locked.id) AS ids,
        array_agg('expired'::text) AS codes,
        array_agg($3::text) AS details
    FROM locked
    CROSS JOIN parted
    WHERE locked.batch_id IS NULL OR locked.batch_id <> ALL (coalesce(parted.batch_ids, '{}'))
    HAVING count(*) > 0
)

SELECT ended.id
FROM
    expired,
    unnest(
        end_transactions(
            moment => clock_timestamp(),
            ids => expired.ids,
            from_status => 'PENDING',
            to_status => 'FAILED',
            codes => expired.codes,
            details => expired.details
        )
    ) AS ended (id);

-- name: expire_holds
-- Ends holds that have expired, at most $1; see migrations/0029.
SELECT expire_holds($1);

-- name: wake_scheduled
-- What was to be executed later and is due becomes PENDING, at most $1 at once, and is put on the
-- retry queue, due at once. The transactions are locked before the rows of the schedule, as by those
-- who cancel them; whose end is being written is left for the next time.
WITH due AS MATERIALIZED (
    SELECT execute_at, transaction_id FROM scheduled_transactions
    WHERE execute_at <= statement_timestamp()
    ORDER BY execute_at, transaction_id
    LIMIT $1
),

locked AS MATERIALIZED (
    SELECT t.id, due.execute_at
    FROM due
    INNER JOIN transactions AS t ON t.id = due.transaction_id
    ORDER BY t.id
    FOR NO KEY UPDATE OF t SKIP LOCKED
),

struck_off AS (
    DELETE FROM scheduled_transactions AS s
    USING locked
    WHERE s.execute_at = locked.execute_at AND s.transaction_id = locked.id
),

woken AS (
    UPDATE transactions AS t
    SET status = 'PENDING'
    FROM locked
    WHERE t.id = locked.id AND t.status = 'SCHEDULED'
    RETURNING t.id, locked.execute_at
),

listed AS (
    INSERT INTO stale_transactions (transaction_id, next_attempt_at)
    SELECT id, execute_at FROM woken
    ORDER BY execute_at, id
    ON CONFLICT (transaction_id) DO NOTHING
)

SELECT count(*) FROM woken;

-- name: give_back
-- What could not be published is due again at once, and the attempt does not count.
UPDATE stale_transactions
SET attempts = attempts - 1, next_attempt_at = statement_timestamp()
WHERE transaction_id = ANY ($1::uuid[]) AND attempts > 0;

-- name: count_retry_queue
-- How long the retry queue is, counted up to a bound.
SELECT count(*) FROM (SELECT FROM stale_transactions LIMIT $1) AS counted;

-- name: read_integrity_progress
-- How far the integrity check came, and how far it may go.
SELECT checked_until, swept_until FROM sweep_progress;

-- name: list_unchecked
-- The next transactions of the walk: [$1, $2), at most $3.
SELECT id FROM transactions
WHERE id >= $1 AND id < $2
ORDER BY id
LIMIT $3;

-- name: move_integrity_progress
-- Moves the watermark on from where it was read, unless somebody else has moved it meanwhile, or
-- has set the sweep back behind it.
UPDATE sweep_progress SET checked_until = $2 WHERE checked_until = $1 AND swept_until >= $2;

-- name: take_late_endings
-- Takes at most $1 of those that ended after the sweep had passed them.
DELETE FROM late_endings
WHERE
    transaction_id IN (
        SELECT transaction_id FROM late_endings
        ORDER BY transaction_id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )
RETURNING transaction_id;

-- name: note_findings
-- Keeps what was found, once for each check and subject, and returns what is new.
INSERT INTO integrity_findings (check_name, subject, detail)
SELECT DISTINCT ON (f.check_name, f.subject) f.check_name, f.subject, f.detail
FROM unnest($1::text[], $2::text[], $3::text[]) AS f (check_name, subject, detail)
ORDER BY f.check_name, f.subject
ON CONFLICT (check_name, subject) DO NOTHING
RETURNING check_name, subject, detail;

-- name: meet_findings_again
-- Of findings that are kept already: they are still so.
UPDATE integrity_findings AS f
SET last_found_at = clock_timestamp()
FROM unnest($1::text[], $2::text[]) AS met (check_name, subject)
WHERE f.check_name = met.check_name AND f.subject = met.subject;

-- name: begin_verification
-- The verification that was asked for and has not ended, begun by whoever leads now.
UPDATE verifications
SET starts = starts + 1, started_at = clock_timestamp(), rows_done = 0, rows_total = 0
WHERE ended_at IS NULL
RETURNING id, starts;

-- name: note_verification_progress
-- How far it is.
UPDATE verifications SET rows_done = $2, rows_total = $3 WHERE id = $1 AND ended_at IS NULL;

-- name: end_verification
-- What a verification came to.
UPDATE verifications
SET
    ended_at = clock_timestamp(), rows_done = greatest(rows_done, rows_total), wallets = $2,
    transactions = $3, entries = $4, latest_seal = $5, findings = $6
WHERE id = $1 AND ended_at IS NULL
RETURNING id;

-- name: fail_verification
-- Why a verification came to nothing.
UPDATE verifications SET ended_at = clock_timestamp(), error = $2
WHERE id = $1 AND ended_at IS NULL
RETURNING id;

-- name: count_findings
-- How many findings are kept, counted up to a bound.
SELECT count(*) FROM (SELECT FROM integrity_findings LIMIT $1) AS counted;

-- name: forget_marks_of_ended
-- Takes the marks of at most $1 transactions that are PENDING no longer.
DELETE FROM unannounced_transactions AS u
USING (
    SELECT m.partition, m.submitter, m.transaction_id
    FROM unannounced_transactions AS m
    INNER JOIN transactions AS t ON t.id = m.transaction_id
    WHERE t.status <> 'PENDING'
    LIMIT $1
) AS ended
WHERE
    u.partition = ended.partition
    AND u.submitter = ended.submitter
    AND u.transaction_id = ended.transaction_id;

-- name: lock_seal_progress
-- One process seals at a time, whoever leads: the next waits here, and then sees what this one did.
SELECT walked_until, walked_before, polled_until, audited_until, audited_before
FROM seal_progress
FOR UPDATE;

-- name: read_last_seal
-- The end of the chain.
SELECT number, digest FROM seals ORDER BY number DESC LIMIT 1;

-- name: read_seal_digest
-- What one seal says.
SELECT digest FROM seals WHERE number = $1;

-- name: poll_unsealed
-- The next $2 of those that had not ended when they were passed, and whether they have by now.
SELECT
    u.transaction_id AS id,
    coalesce(t.status IN ('COMPLETED', 'REVERSED', 'FAILED'), false) AS has_ended
FROM (
    SELECT transaction_id FROM unsealed_transactions
    WHERE transaction_id > $1
    ORDER BY transaction_id
    LIMIT $2
) AS u
LEFT JOIN LATERAL (
    SELECT one.status FROM transactions AS one WHERE one.id = u.transaction_id OFFSET 0
) AS t ON true
ORDER BY u.transaction_id;

-- name: list_sealed_between
-- Which ids of [$1, $2) are sealed: by seals that had come to the moment $3 at least, when the walk
-- first passed there. A seal names its ids in their order.
SELECT m.id
FROM (
    SELECT transaction_ids FROM seals
    WHERE
        until >= $3
        AND transaction_ids[1] < $2
        AND transaction_ids[cardinality(transaction_ids)] >= $1
    OFFSET 0
) AS s
CROSS JOIN LATERAL unnest(s.transaction_ids) AS m (id)
WHERE m.id >= $1 AND m.id < $2;

-- name: insert_seal
-- Adds one to the chain.
INSERT INTO seals (
    number, format, until, transactions, entries, transaction_ids, leaf_prefixes, previous, digest,
    sealed_at, key_id, signature, audit_ids, audit_leaf_prefixes
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: list_audit
-- The next records of the audit log: [$1, $2), at most $3.
SELECT id FROM audit_log WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3;

-- name: list_sealed_audit
-- Which records of [$1, $2] are sealed: asked only where they are walked again. A seal names them in
-- their order.
SELECT m.id
FROM (
    SELECT audit_ids FROM seals
    WHERE audit_ids[1] <= $2 AND audit_ids[cardinality(audit_ids)] >= $1
    OFFSET 0
) AS s
CROSS JOIN LATERAL unnest(s.audit_ids) AS m (id)
WHERE m.id BETWEEN $1 AND $2;

-- name: insert_seal_key
-- Lets everybody look up the public key of a signature; its first use leaves a trail.
WITH new AS (
    INSERT INTO seal_keys (key_id, public_key) VALUES ($1, $2)
    ON CONFLICT (key_id) DO NOTHING
    RETURNING key_id
)

INSERT INTO audit_log (id, actor, action, subject)
SELECT uuid_v7(clock_us()), 'reconciler', 'seal_key.used', 'seal_key:' || new.key_id
FROM new;

-- name: insert_unsealed
-- Remembers what has not ended yet.
INSERT INTO unsealed_transactions (transaction_id)
SELECT w.id FROM unnest($1::uuid[]) AS w (id)
ON CONFLICT (transaction_id) DO NOTHING;

-- name: forget_unsealed
-- What is sealed leaves the list.
DELETE FROM unsealed_transactions WHERE transaction_id = ANY ($1::uuid[]);

-- name: move_seal_progress
-- How far sealing has come; written with the seal itself.
UPDATE seal_progress
SET
    walked_until = $1, walked_before = $2, polled_until = $3,
    audited_until = $4, audited_before = $5;

-- name: count_unsealed
-- How many have not ended and are passed, counted up to a bound.
SELECT count(*) FROM (SELECT FROM unsealed_transactions LIMIT $1) AS counted;

-- name: read_clock
-- The database's time.
SELECT clock_timestamp();

-- name: read_windows
-- How long each rule that counts remembers.
SELECT number, (parameters ->> 'window_s')::bigint AS window_s FROM rules WHERE kind = 'velocity';

-- name: forget_counters
-- Walks the next $2 counters behind a key, and takes those whose latest bucket is older than their
-- rule's window ($3, $4: the oldest bucket that is not). What a batch has locked is passed by.
WITH stretch AS MATERIALIZED (
    SELECT c.key FROM rule_counters AS c WHERE c.key > $1 ORDER BY c.key LIMIT $2
),

old AS MATERIALIZED (
    SELECT c.key
    FROM stretch AS s
    INNER JOIN unnest($3::integer[], $4::bigint[]) AS w (number, oldest)
        ON w.number = split_part(s.key, '|', 1)::integer
    INNER JOIN rule_counters AS c ON c.key = s.key
    WHERE c.bucket < w.oldest
    ORDER BY c.key
    FOR UPDATE OF c SKIP LOCKED
),

forgotten AS (
    DELETE FROM rule_counters AS c
    USING old
    WHERE c.key = old.key
    RETURNING c.key
)

SELECT
    (SELECT count(*) FROM stretch) AS looked_at,
    (SELECT count(*) FROM forgotten) AS forgotten,
    (SELECT max(s.key) FROM stretch AS s) AS last_key;

-- name: observe_book
-- What waits for posting and since when, which holds are open, which events are owed; each counted up
-- to $1. What was swept over and still waits is on the worklist.
WITH waiting AS (
    (
        SELECT t.created_at
        FROM stale_transactions AS s
        INNER JOIN transactions AS t ON t.id = s.transaction_id
        WHERE t.status = 'PENDING' AND pending_since(t.id, t.created_at, t.has_terms) IS NOT NULL
        ORDER BY s.transaction_id
        LIMIT $1
    )
    UNION ALL
    (
        SELECT t.created_at
        FROM transactions AS t
        WHERE
            t.id > (SELECT p.swept_until FROM sweep_progress AS p)
            AND t.status = 'PENDING'
            AND pending_since(t.id, t.created_at, t.has_terms) IS NOT NULL
        ORDER BY t.id
        LIMIT $1
    )
),

owed AS (
    SELECT o.created_at FROM outbox AS o ORDER BY o.id LIMIT $1
)

SELECT
    (SELECT count(*) FROM waiting) AS pending,
    coalesce((
        SELECT extract(EPOCH FROM clock_timestamp() - min(w.created_at)) FROM waiting AS w
    ), 0)::double precision AS oldest_pending_s,
    (
        SELECT count(*) FROM (
            SELECT FROM holds AS h
            WHERE h.status = 'OPEN' AND h.expires_at > clock_timestamp()
            LIMIT $1
        ) AS held
    ) AS open_holds,
    (SELECT count(*) FROM owed) AS owed,
    coalesce((
        SELECT extract(EPOCH FROM clock_timestamp() - min(o.created_at)) FROM owed AS o
    ), 0)::double precision AS oldest_owed_s;

-- name: observe_money
-- What all wallets of a currency hold together is what its external wallet owes.
SELECT w.id, -w.balance AS inside
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id;
