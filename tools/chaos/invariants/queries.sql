-- name: make_promises
-- The journal and the events beside the books, for the length of one check.
CREATE TEMPORARY TABLE promises (
    client integer NOT NULL,
    door text NOT NULL,
    act text NOT NULL,
    key text NOT NULL,
    type text,
    source uuid,
    destination uuid,
    minor bigint,
    currency text,
    sent_s double precision NOT NULL,
    answered_s double precision NOT NULL,
    outcome text NOT NULL,
    transaction_id uuid,
    code text,
    is_batch boolean NOT NULL,
    is_after_loss boolean NOT NULL,
    other_key text,
    other_id uuid,
    expires_in_s integer,
    is_final boolean,
    is_forced boolean,
    version bigint,
    available_at_least bigint,
    balance_at_most bigint,
    valid_until timestamptz,
    execute_at timestamptz,
    batch text
);

CREATE TEMPORARY TABLE promised_legs (
    key text NOT NULL,
    position integer NOT NULL,
    wallet_id uuid,
    minor bigint NOT NULL,
    currency text NOT NULL
);

CREATE TEMPORARY TABLE endings (
    act text NOT NULL,
    ending text NOT NULL
);

CREATE TEMPORARY TABLE losses (
    began_s double precision NOT NULL,
    ended_s double precision NOT NULL
);

-- By whom each event was heard: 'queue', 'stream', or the name of a webhook. What the queue had is kept
-- without when it occurred and what wallets it names.
CREATE TEMPORARY TABLE told (
    listener text NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    transaction_id uuid NOT NULL,
    occurred_at timestamptz,
    wallet_ids uuid []
);

CREATE TEMPORARY TABLE hooks (
    name text NOT NULL,
    since timestamptz NOT NULL,
    event_types text [],
    wallet_ids uuid []
);

-- name: analyze_promises
-- Tells the planner how large the copies are: nothing else analyzes a temporary table.
ANALYZE promises, promised_legs, told;

-- name: join_promises
-- One row a key that asked for a transaction, beside the transaction that it became. A key that the
-- broker had confirmed and lost counts as accepted when it was accepted again. `wallet` and `sequence`
-- say in which order moves of one amount were posted: the wallet that is debited, credited by a
-- deposit, or was debited by what is reversed. Of what moves nothing, or several wallets, or has a
-- time of its own, they do not.
CREATE TEMPORARY TABLE asked AS
SELECT
    p.*, c.*, t.id, t.status::text AS status, t.failure_code::text AS failure_code,
    t.created_at, t.completed_at,
    CASE
        WHEN c.type = 'reversal' THEN coalesce(c.destination, c.source)
        ELSE coalesce(c.source, c.destination)
    END AS wallet,
    CASE
        WHEN c.execute_at IS NOT NULL OR c.type IN ('hold', 'release', 'journal') THEN NULL
        WHEN c.type = 'reversal' THEN
            CASE WHEN c.destination IS NULL THEN t.source_sequence ELSE t.destination_sequence END
        WHEN c.source IS NULL THEN t.destination_sequence
        ELSE t.source_sequence
    END AS sequence,
    t.type::text AS found_type, t.source_wallet_id AS found_source,
    t.destination_wallet_id AS found_destination, t.amount AS found_minor,
    t.currency AS found_currency
FROM (
    SELECT
        key,
        (array_agg(client ORDER BY sent_s))[1] AS client,
        min(door) AS door,
        min(act) FILTER (WHERE act NOT IN ('duplicate', 'concurrent_duplicate')) AS act,
        bool_and(door = 'amqp') AS is_amqp_only,
        bool_or(is_batch) AS is_batch,
        min(sent_s) AS sent_s,
        min(answered_s) FILTER (WHERE outcome = 'accepted') AS recorded_s,
        coalesce(
            max(answered_s) FILTER (WHERE is_after_loss AND outcome = 'confirmed'),
            min(answered_s) FILTER (WHERE outcome = 'confirmed')
        ) AS confirmed_s,
        coalesce(
            max(answered_s) FILTER (
                WHERE is_after_loss AND outcome IN ('accepted', 'confirmed')
            ),
            min(answered_s) FILTER (WHERE outcome IN ('accepted', 'confirmed'))
        ) AS accepted_s
    FROM promises
    WHERE act NOT IN ('other_content', 'poison', 'cancel')
    GROUP BY key
) AS p
INNER JOIN (
    SELECT DISTINCT ON (key)
        key AS content_key, type, source, destination, minor, currency, other_key, other_id,
        expires_in_s, is_final, is_forced, version, available_at_least, balance_at_most,
        valid_until, execute_at, batch
    FROM promises
    WHERE act NOT IN ('other_content', 'poison', 'cancel')
    ORDER BY key, sent_s
) AS c ON c.content_key = p.key
LEFT JOIN transactions AS t ON t.submitter = $1 AND t.idempotency_key = p.key;

-- name: read_letters
-- The dead letters, each with the mark of its poison or the key that its body names first.
CREATE TEMPORARY TABLE letters AS
SELECT
    d.id, d.reason, d.transaction_id, d.replayed_at, d.discarded_at,
    substring(d.head FROM 'chaos-[-0-9]+-poison-[0-9]+-[0-9]+') AS mark,
    substring(d.head FROM '"idempotency_key":"([^"]+)"') AS key
FROM (
    SELECT *, encode(substring(body FROM 1 FOR 600), 'escape') AS head FROM dead_letters
) AS d;

-- name: join_posted
-- What of the asked was posted, with the amount that it moved: of what names none, the books say it.
CREATE TEMPORARY TABLE posted AS
SELECT a.*, coalesce(a.minor, a.found_minor) AS moved
FROM asked AS a
WHERE a.status IN ('COMPLETED', 'REVERSED');

-- name: analyze_asked
-- The same for what was joined.
ANALYZE asked, posted, letters;

-- name: count_all
-- How much was compared.
SELECT
    (SELECT count(*) FROM promises) AS attempts,
    (SELECT count(*) FROM asked) AS keys,
    (SELECT count(*) FROM asked WHERE status = 'COMPLETED') AS completed,
    (SELECT count(*) FROM asked WHERE status = 'FAILED') AS failed,
    (SELECT count(*) FROM entries) AS entries,
    (SELECT count(*) FROM told WHERE listener = 'queue') AS events,
    (SELECT count(*) FROM told WHERE listener = 'stream') AS followed_events,
    (SELECT count(*) FROM told WHERE listener NOT IN ('queue', 'stream')) AS webhook_deliveries,
    (SELECT count(*) FROM letters) AS dead_letters,
    (
        SELECT count(*) FROM asked
        WHERE sequence IS NOT NULL AND (recorded_s IS NOT NULL OR confirmed_s IS NOT NULL)
    ) AS ordered,
    (
        SELECT count(*) FROM (
            SELECT FROM transactions WHERE completed_at IS NOT NULL
            GROUP BY completed_at HAVING count(*) >= $1
        ) AS batches
    ) AS full_batches;

-- name: count_kinds
-- How much of each type, and of each thing that may be asked for beside, was asked for and how it ended.
SELECT
    kind.name,
    count(*) AS asked,
    count(*) FILTER (WHERE a.status IN ('COMPLETED', 'REVERSED')) AS posted,
    count(*) FILTER (WHERE a.status = 'FAILED') AS failed
FROM asked AS a
LEFT JOIN holds AS h ON h.transaction_id = a.id
CROSS JOIN LATERAL (
    VALUES
    (a.type),
    (CASE WHEN h.status = 'EXPIRED' THEN 'hold that expired' END),
    (CASE WHEN a.type = 'capture' AND a.minor IS NOT NULL THEN 'capture of a part' END),
    (CASE WHEN a.type = 'capture' AND NOT a.is_final THEN 'capture that leaves the rest' END),
    (CASE WHEN a.type = 'reversal' AND a.minor IS NOT NULL THEN 'reversal of a part' END),
    (CASE WHEN a.is_forced THEN 'reversal by force' END),
    (CASE WHEN a.act = 'exchange' THEN 'journal in two currencies' END),
    (CASE WHEN a.batch IS NOT NULL THEN 'in an atomic batch' END),
    (CASE WHEN a.act = 'condition' THEN 'with a condition' END),
    (CASE WHEN a.valid_until IS NOT NULL THEN 'with `valid_until`' END),
    (CASE WHEN a.execute_at IS NOT NULL THEN 'with `execute_at`' END),
    (CASE WHEN a.failure_code = 'cancelled' THEN 'cancelled' END)
) AS kind (name)
WHERE kind.name IS NOT NULL
GROUP BY kind.name
ORDER BY kind.name;

-- name: wrong_balances
-- C: wallets whose balance is not what the journal's completed transactions come to, as they were asked
-- for; where one asks for the rest, H and V say how much that is.
SELECT
    format('wallet %s', w.id) AS subject,
    format('its completed promises sum to %s, its balance is %s', m.total, w.balance) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT line.wallet_id, sum(line.amount) FILTER (WHERE line.is_posted) AS total
    FROM (
        SELECT leg.wallet_id, leg.amount, p.id IS NOT NULL AS is_posted
        FROM asked AS a
        LEFT JOIN posted AS p ON p.key = a.key
        CROSS JOIN LATERAL (VALUES (a.source, -p.moved), (a.destination, p.moved))
            AS leg (wallet_id, amount)
        WHERE
            a.type IN ('deposit', 'withdrawal', 'transfer', 'capture')
            OR (
                a.type = 'reversal'
                AND NOT EXISTS (SELECT FROM promised_legs AS l WHERE l.key = a.other_key)
            )
        UNION ALL
        SELECT
            l.wallet_id, CASE a.type WHEN 'journal' THEN l.minor ELSE -l.minor END,
            a.status IN ('COMPLETED', 'REVERSED')
        FROM asked AS a
        INNER JOIN promised_legs AS l
            ON l.key = CASE a.type WHEN 'journal' THEN a.key ELSE a.other_key END
        WHERE a.type IN ('journal', 'reversal')
    ) AS line
    GROUP BY line.wallet_id
) AS m
INNER JOIN wallets AS w ON w.id = m.wallet_id
WHERE w.balance <> coalesce(m.total, 0)
LIMIT $1;

-- name: doubled_keys
-- X: keys that stand for more than one transaction.
SELECT
    format('key %s', t.idempotency_key) AS subject,
    format('it stands for %s transactions', count(*)) AS detail,
    count(*) OVER () AS total
FROM transactions AS t
WHERE t.submitter = $2
GROUP BY t.idempotency_key
HAVING count(*) > 1
LIMIT $1;

-- name: wrong_legs
-- X: transactions with more or fewer entries than the legs that they were posted with: two of a plain
-- move.
SELECT
    format('transaction %s', coalesce(e.transaction_id, l.transaction_id)) AS subject,
    format('it has %s entries', coalesce(e.entries, 0)) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT transaction_id, count(*) AS entries FROM entries GROUP BY transaction_id
) AS e
FULL JOIN (
    SELECT transaction_id, count(*) AS legs FROM posted_legs GROUP BY transaction_id
) AS l ON l.transaction_id = e.transaction_id
WHERE e.entries IS DISTINCT FROM l.legs
LIMIT $1;

-- name: unasked_transactions
-- X: transactions under a client's key that no client asked for.
SELECT
    format('key %s', t.idempotency_key) AS subject,
    format('nobody asked for transaction %s', t.id) AS detail,
    count(*) OVER () AS total
FROM transactions AS t
LEFT JOIN asked AS a ON a.key = t.idempotency_key
WHERE t.submitter = $2 AND t.idempotency_key ^@ ANY ($3::text[]) AND a.key IS NULL
LIMIT $1;

-- name: unfinished_promises
-- T: what was promised, or at least recorded, and has not come to an end, or was to be executed by now.
SELECT
    format('key %s', a.key) AS subject,
    CASE
        WHEN a.id IS NULL THEN format('promised over %s, and there is no transaction', a.door)
        ELSE format('transaction %s is %s', a.id, a.status)
    END AS detail,
    count(*) OVER () AS total
FROM asked AS a
WHERE
    (a.accepted_s IS NOT NULL OR a.id IS NOT NULL)
    AND coalesce(a.status, '') NOT IN ('COMPLETED', 'FAILED', 'REVERSED')
    AND NOT (
        coalesce(a.status, '') = 'SCHEDULED'
        AND EXISTS (
            SELECT FROM transaction_terms AS terms
            WHERE terms.transaction_id = a.id AND terms.execute_at > clock_timestamp()
        )
    )
LIMIT $1;

-- name: vanished_poison
-- T: poison that the broker confirmed, and that is no dead letter.
SELECT
    format('poison %s', p.key) AS subject,
    'confirmed, and no dead letter carries its mark' AS detail,
    count(*) OVER () AS total
FROM (
    SELECT DISTINCT key FROM promises WHERE act = 'poison' AND outcome = 'confirmed'
) AS p
WHERE NOT EXISTS (SELECT FROM letters AS l WHERE l.mark = p.key)
LIMIT $1;

-- name: different_answers
-- R: answers that name another transaction than the one that the key stands for.
SELECT
    format('key %s', p.key) AS subject,
    format('it was answered with %s and stands for %s', p.transaction_id, a.id) AS detail,
    count(*) OVER () AS total
FROM promises AS p
INNER JOIN asked AS a ON a.key = p.key
WHERE
    p.outcome = 'accepted' AND p.act <> 'other_content'
    AND p.transaction_id IS DISTINCT FROM a.id
LIMIT $1;

-- name: changed_content
-- R: transactions that are not what was asked for under their key. A journal's amounts are its legs'.
SELECT
    format('key %s', a.key) AS subject,
    format(
        'asked for a %s of %s %s, transaction %s is a %s of %s %s or has other legs or terms',
        a.type, a.minor, a.currency, a.id, a.found_type, a.found_minor, a.found_currency
    ) AS detail,
    count(*) OVER () AS total
FROM asked AS a
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = a.id
LEFT JOIN transactions AS t ON t.id = a.id
LEFT JOIN (
    SELECT key, array_agg((wallet_id, minor, currency) ORDER BY position) AS legs
    FROM promised_legs
    GROUP BY key
) AS promised ON promised.key = a.key
LEFT JOIN (
    SELECT
        transaction_id,
        array_agg(
            (CASE WHEN NOT is_external THEN wallet_id END, amount, currency) ORDER BY position
        ) AS legs
    FROM transaction_legs
    GROUP BY transaction_id
) AS found ON found.transaction_id = a.id AND a.type = 'journal'
WHERE
    a.id IS NOT NULL
    AND (
        a.type <> a.found_type
        OR a.minor <> a.found_minor
        OR (a.type NOT IN ('journal', 'reversal') AND a.currency <> a.found_currency)
        OR a.source <> a.found_source
        OR a.destination <> a.found_destination
        OR promised.legs IS DISTINCT FROM found.legs
        OR a.other_id IS DISTINCT FROM coalesce(terms.hold_id, t.reverses)
        OR a.valid_until IS DISTINCT FROM terms.valid_until
        OR a.execute_at IS DISTINCT FROM terms.execute_at
        OR a.expires_in_s <> terms.expires_in_s
        OR a.is_final <> terms.is_final
        OR coalesce(a.is_forced, false) <> coalesce(terms.is_forced, false)
        OR (a.batch IS NULL) <> (terms.batch_id IS NULL)
    )
LIMIT $1;

-- name: unrefused_contents
-- R: a key with other content that was taken over HTTP, or vanished over AMQP.
SELECT
    format('key %s', p.key) AS subject,
    format('other content under it was %s %s', p.outcome, p.code) AS detail,
    count(*) OVER () AS total
FROM promises AS p
WHERE
    p.act = 'other_content'
    AND (
        p.outcome = 'accepted'
        OR p.outcome = 'refused' AND p.code <> '422 idempotency_key_reused'
        OR p.outcome = 'confirmed' AND NOT EXISTS (
            SELECT FROM letters AS l WHERE l.key = p.key AND l.reason = 'idempotency_key_reused'
        )
    )
LIMIT $1;

-- name: refused_promises
-- R: good requests that were refused at the door.
SELECT
    format('key %s', p.key) AS subject,
    format('a good request was refused over %s: %s', p.door, p.code) AS detail,
    count(*) OVER () AS total
FROM promises AS p
WHERE
    p.outcome = 'refused' AND p.act <> 'other_content'
    AND NOT (p.act = 'cancel' AND p.code = '409 not_cancellable')
LIMIT $1;

-- name: refused_repetitions
-- R: keys buried for other content that nobody sent.
SELECT
    format('key %s', l.key) AS subject,
    format('dead letter %s says other content, and nobody sent any', l.id) AS detail,
    count(*) OVER () AS total
FROM letters AS l
WHERE
    l.reason = 'idempotency_key_reused'
    AND EXISTS (SELECT FROM asked AS a WHERE a.key = l.key)
    AND NOT EXISTS (
        SELECT FROM promises AS p
        WHERE p.key = l.key AND p.act = 'other_content' AND p.door = 'amqp'
    )
LIMIT $1;

-- name: overdrawn_entries
-- N: transactions after which a customer's wallet was below its limit. A limit holds after all legs of
-- a journal, and not for what a forced reversal took.
SELECT
    format('wallet %s entry %s', e.wallet_id, e.sequence) AS subject,
    format('the balance after it is %s, the limit %s', e.balance_after, -w.overdraft_limit)
        AS detail,
    count(*) OVER () AS total
FROM entries AS e
INNER JOIN wallets AS w ON w.id = e.wallet_id
LEFT JOIN entries AS next
    ON next.wallet_id = e.wallet_id AND next.sequence = e.sequence + 1
    AND next.transaction_id = e.transaction_id
WHERE
    w.kind = 'customer' AND e.balance_after < -w.overdraft_limit
    AND next.wallet_id IS NULL
    AND e.wallet_id NOT IN (
        SELECT leg.wallet_id
        FROM transaction_terms AS terms
        INNER JOIN posted_legs AS leg ON leg.transaction_id = terms.transaction_id
        WHERE terms.is_forced
    )
LIMIT $1;

-- name: strange_endings
-- F: transactions that ended as nothing of what was asked for can end.
SELECT
    format('key %s', a.key) AS subject,
    format('a %s ended as %s', a.act, coalesce(a.failure_code, lower(a.status))) AS detail,
    count(*) OVER () AS total
FROM asked AS a
WHERE
    a.act IS NOT NULL
    AND a.status IN ('COMPLETED', 'REVERSED', 'FAILED')
    AND NOT EXISTS (
        SELECT FROM endings AS e
        WHERE
            e.act = a.act
            AND e.ending = CASE WHEN a.status = 'FAILED' THEN a.failure_code ELSE 'completed' END
    )
LIMIT $1;

-- name: wrong_holds
-- H: holds that are not what their promises come to: what was captured, what is left, and how each
-- ended; once, and by what was posted before it expired.
SELECT
    format('hold %s, key %s', p.id, p.key) AS subject,
    format(
        'of %s captures took %s (last one final: %s), releases %s; it is %s with %s captured and %s '
        'left, and expires at %s',
        p.moved, taken.captured, ended.is_final, ended.releases, h.status, h.captured, h.remaining,
        h.expires_at
    ) AS detail,
    count(*) OVER () AS total
FROM posted AS p
LEFT JOIN holds AS h ON h.transaction_id = p.id
LEFT JOIN (
    SELECT
        q.other_id,
        sum(q.moved) FILTER (WHERE q.type = 'capture') AS captured,
        bool_or(q.type = 'capture' AND coalesce(q.is_final, true)) AS is_final,
        count(*) FILTER (WHERE q.type = 'release') AS releases,
        count(*) FILTER (
            WHERE q.type = 'release' OR coalesce(q.is_final, true) OR q.minor IS NULL
        ) AS enders,
        max(q.completed_at) AS last_at
    FROM posted AS q
    WHERE q.type IN ('capture', 'release')
    GROUP BY q.other_id
) AS ended ON ended.other_id = p.id
CROSS JOIN LATERAL (SELECT coalesce(ended.captured, 0) AS captured) AS taken
WHERE
    p.type = 'hold'
    AND (
        h.transaction_id IS NULL
        OR (h.wallet_id, h.amount, h.captured) <> (p.source, p.moved, taken.captured)
        OR taken.captured > p.moved
        OR ended.enders > 1
        OR ended.last_at >= h.expires_at
        OR h.expires_at <> p.completed_at + make_interval(secs => coalesce(p.expires_in_s, 604800))
        OR h.remaining <> CASE h.status WHEN 'OPEN' THEN p.moved - taken.captured ELSE 0 END
        OR h.status <> CASE
            WHEN ended.releases > 0 THEN 'RELEASED'
            WHEN ended.is_final OR taken.captured = p.moved THEN 'CAPTURED'
            WHEN h.expires_at <= clock_timestamp() THEN 'EXPIRED'
            ELSE 'OPEN'
        END::hold_status
    )
LIMIT $1;

-- name: wrong_rests
-- H: captures of the rest that took more or less than was left of their hold.
SELECT
    format('key %s', c.key) AS subject,
    format('it captured %s of the %s that were left', c.moved, c.rest) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT
        q.key, q.minor, q.moved,
        p.moved - coalesce(
            sum(q.moved) OVER (
                PARTITION BY q.other_id ORDER BY q.sequence
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), 0
        ) AS rest
    FROM posted AS q
    INNER JOIN posted AS p ON p.id = q.other_id
    WHERE q.type = 'capture'
) AS c
WHERE c.moved > c.rest OR (c.minor IS NULL AND c.moved <> c.rest)
LIMIT $1;

-- name: wrong_held
-- H: wallets whose `held` is not the sum of their open holds, as promises come to it.
SELECT
    format('wallet %s', w.id) AS subject,
    format('%s of it is held, its open holds come to %s', w.held, coalesce(open.held, 0))
        AS detail,
    count(*) OVER () AS total
FROM wallets AS w
LEFT JOIN (
    SELECT p.source AS wallet_id, sum(p.moved - coalesce(taken.captured, 0)) AS held
    FROM posted AS p
    INNER JOIN holds AS h ON h.transaction_id = p.id AND h.status = 'OPEN'
    LEFT JOIN (
        SELECT other_id, sum(moved) AS captured FROM posted WHERE type = 'capture' GROUP BY other_id
    ) AS taken ON taken.other_id = p.id
    WHERE p.type = 'hold'
    GROUP BY p.source
) AS open ON open.wallet_id = w.id
WHERE w.held <> coalesce(open.held, 0)
LIMIT $1;

-- name: wrong_reversals
-- V: transactions of which more was reversed than they moved, or which are not REVERSED exactly when the
-- whole was. A journal is reversed once and as a whole, a member of an atomic batch as a whole.
SELECT
    format('key %s', p.key) AS subject,
    format(
        '%s reversals took back %s of %s, and it is %s',
        coalesce(back.reversals, 0), back.moved, p.moved, p.status
    ) AS detail,
    count(*) OVER () AS total
FROM posted AS p
LEFT JOIN (
    SELECT other_id, count(*) AS reversals, sum(moved) AS moved
    FROM posted
    WHERE type = 'reversal'
    GROUP BY other_id
) AS back ON back.other_id = p.id
WHERE
    -- The reversal of a journal has no one amount.
    (p.status = 'REVERSED') <> CASE p.type
        WHEN 'journal' THEN back.reversals IS NOT NULL ELSE coalesce(back.moved = p.moved, false)
    END
    OR back.moved > p.moved
    OR (p.type = 'journal' AND back.reversals > 1)
    OR (p.batch IS NOT NULL AND back.reversals > 1)
    OR (back.reversals IS NOT NULL AND p.type IN ('hold', 'release', 'reversal'))
LIMIT $1;

-- name: wrong_returns
-- V: reversals of the rest that took back more or less than was left.
SELECT
    format('key %s', c.key) AS subject,
    format('it took back %s of the %s that were left', c.moved, c.rest) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT
        q.key, q.minor, q.moved,
        p.moved - coalesce(
            sum(q.moved) OVER (
                PARTITION BY q.other_id ORDER BY q.sequence
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), 0
        ) AS rest
    FROM posted AS q
    INNER JOIN posted AS p ON p.id = q.other_id
    WHERE q.type = 'reversal' AND p.type <> 'journal'
) AS c
WHERE c.moved > c.rest OR (c.minor IS NULL AND c.moved <> c.rest)
LIMIT $1;

-- name: torn_batches
-- A: atomic batches that were recorded or posted in part, at several moments, or without a culprit.
SELECT
    format('atomic batch %s', b.batch) AS subject,
    format(
        '%s members: %s recorded in %s batches, %s posted at %s moments, %s culprits',
        b.members, b.recorded, b.batches, b.posted, b.moments, b.culprits
    ) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT
        a.batch,
        count(*) AS members,
        count(a.id) AS recorded,
        count(DISTINCT terms.batch_id) AS batches,
        count(*) FILTER (WHERE a.status IN ('COMPLETED', 'REVERSED')) AS posted,
        count(DISTINCT a.completed_at) AS moments,
        count(*) FILTER (WHERE a.status = 'FAILED' AND a.failure_code <> 'batch_failed')
            AS culprits
    FROM asked AS a
    LEFT JOIN transaction_terms AS terms ON terms.transaction_id = a.id
    WHERE a.batch IS NOT NULL
    GROUP BY a.batch
) AS b
WHERE
    b.recorded > 0
    AND NOT (
        b.recorded = b.members AND b.batches = 1 AND b.moments = 1
        AND CASE b.posted WHEN b.members THEN b.culprits = 0 WHEN 0 THEN b.culprits = 1 ELSE false END
    )
LIMIT $1;

-- name: broken_terms
-- W: transactions that were posted although a condition was not met, after their time or before it;
-- that expired too early; that were refused for a version which the wallet then had. What else was
-- available cannot be seen afterwards: the balance and the limit say how much at most.
SELECT
    format('key %s', a.key) AS subject,
    format(
        'ended as %s at %s: version %s for entry %s, at least %s and at most %s for a balance of %s, '
        'valid until %s, to be executed at %s',
        coalesce(a.failure_code, a.status), a.completed_at, a.version, e.sequence,
        a.available_at_least, a.balance_at_most, e.balance_after, a.valid_until, a.execute_at
    ) AS detail,
    count(*) OVER () AS total
FROM asked AS a
INNER JOIN wallets AS w ON w.id = a.wallet
LEFT JOIN entries AS e ON e.wallet_id = a.wallet AND e.transaction_id = a.id
LEFT JOIN entries AS after ON after.wallet_id = a.wallet AND after.sequence = a.version + 1
WHERE
    CASE
        WHEN a.status IN ('COMPLETED', 'REVERSED') THEN
            a.version + 1 <> e.sequence
            OR a.available_at_least > e.balance_after + w.overdraft_limit
            OR a.balance_at_most < e.balance_after
            OR a.valid_until < a.completed_at
            OR a.execute_at > a.completed_at
        WHEN a.failure_code = 'expired' THEN coalesce(a.valid_until > a.completed_at, true)
        WHEN a.failure_code = 'condition_failed' AND a.version IS NOT NULL THEN
            after.sequence IS NULL OR after.created_at > a.completed_at
        ELSE false
    END
LIMIT $1;

-- name: wrong_cancellations
-- W: transactions that somebody was told are cancelled and are not, or that nobody cancelled.
SELECT
    format('key %s', a.key) AS subject,
    format('%s times cancelled, and it is %s', coalesce(c.done, 0), coalesce(a.failure_code, a.status))
        AS detail,
    count(*) OVER () AS total
FROM asked AS a
LEFT JOIN (
    SELECT other_id, count(*) FILTER (WHERE outcome = 'accepted') AS done
    FROM promises
    WHERE act = 'cancel'
    GROUP BY other_id
) AS c ON c.other_id = a.id
WHERE
    (c.done > 0 AND a.failure_code IS DISTINCT FROM 'cancelled')
    OR (c.other_id IS NULL AND a.failure_code = 'cancelled')
LIMIT $1;

-- name: untold_transactions
-- E, L: final transactions and expired holds, recorded since the events were listened to, whose event
-- a listener ($3) did not hear.
SELECT
    format('transaction %s', ended.id) AS subject,
    format('it is %s, and the %s had no event transaction.%s', ended.what, $3::text, ended.event) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT t.id, t.created_at, t.status::text AS what, lower(t.status::text) AS event
    FROM transactions AS t
    WHERE t.status IN ('COMPLETED', 'FAILED', 'REVERSED')
    UNION ALL
    SELECT t.id, t.created_at, 'REVERSED', 'completed'
    FROM transactions AS t
    WHERE t.status = 'REVERSED'
    UNION ALL
    SELECT t.id, t.created_at, 'a hold that EXPIRED', 'hold_expired'
    FROM holds AS h
    INNER JOIN transactions AS t ON t.id = h.transaction_id
    WHERE h.status = 'EXPIRED'
) AS ended
WHERE
    ended.created_at >= $2
    AND NOT EXISTS (
        SELECT FROM told AS e
        WHERE
            e.listener = $3 AND e.transaction_id = ended.id
            AND e.event_type = 'transaction.' || ended.event
    )
LIMIT $1;

-- name: renamed_events
-- E, L: events told under more than one id. A transaction may be quarantined more than once.
SELECT
    format('transaction %s', e.transaction_id) AS subject,
    format('%s was told under %s ids', e.event_type, count(DISTINCT e.event_id)) AS detail,
    count(*) OVER () AS total
FROM told AS e
WHERE e.listener = $2 AND e.event_type <> 'transaction.quarantined'
GROUP BY e.transaction_id, e.event_type
HAVING count(DISTINCT e.event_id) > 1
LIMIT $1;

-- name: shared_event_ids
-- E, L: one event id for different events.
SELECT
    format('event %s', e.event_id) AS subject,
    format('it told %s different things', count(DISTINCT (e.transaction_id, e.event_type))) AS detail,
    count(*) OVER () AS total
FROM told AS e
WHERE e.listener = $2
GROUP BY e.event_id
HAVING count(DISTINCT (e.transaction_id, e.event_type)) > 1
LIMIT $1;

-- name: untrue_events
-- E, L: events of what is not so.
SELECT DISTINCT
    format('transaction %s', e.transaction_id) AS subject,
    format('%s was told, it is %s', e.event_type, coalesce(t.status::text, 'nowhere')) AS detail,
    count(*) OVER () AS total
FROM told AS e
LEFT JOIN transactions AS t ON t.id = e.transaction_id
WHERE
    e.listener = $2
    AND NOT CASE e.event_type
        WHEN 'transaction.completed' THEN coalesce(t.status IN ('COMPLETED', 'REVERSED'), false)
        WHEN 'transaction.failed' THEN coalesce(t.status = 'FAILED', false)
        WHEN 'transaction.reversed' THEN coalesce(t.status = 'REVERSED', false)
        WHEN 'transaction.quarantined' THEN
            t.status = 'QUARANTINED'
            OR EXISTS (SELECT FROM letters AS l WHERE l.transaction_id = e.transaction_id)
        WHEN 'transaction.hold_expired' THEN EXISTS (
            SELECT FROM holds AS h
            WHERE h.transaction_id = e.transaction_id AND h.status = 'EXPIRED'
        )
        ELSE false
    END
LIMIT $1;

-- name: unfollowed_events
-- L: events that the queue had, and whoever followed did not.
SELECT
    format('event %s', e.event_id) AS subject,
    format('%s of transaction %s', e.event_type, e.transaction_id) AS detail,
    count(*) OVER () AS total
FROM told AS e
WHERE
    e.listener = 'queue'
    AND NOT EXISTS (SELECT FROM told AS f WHERE f.listener = 'stream' AND f.event_id = e.event_id)
LIMIT $1;

-- name: undelivered_events
-- D: events that a webhook asked for, and that were never taken from it.
SELECT
    format('webhook %s', h.name) AS subject,
    format('event %s of transaction %s did not arrive', e.event_id, e.transaction_id) AS detail,
    count(*) OVER () AS total
FROM hooks AS h
INNER JOIN told AS e
    ON
        e.listener = 'stream' AND e.occurred_at >= h.since
        AND (h.event_types IS NULL OR e.event_type = ANY (h.event_types))
        AND (h.wallet_ids IS NULL OR e.wallet_ids && h.wallet_ids)
WHERE NOT EXISTS (
    SELECT FROM told AS a WHERE a.listener = h.name AND a.event_id = e.event_id
)
LIMIT $1;

-- name: unasked_deliveries
-- D: events that arrived by a webhook and do not exist, or that it did not ask for.
SELECT
    format('webhook %s', h.name) AS subject,
    format('event %s of transaction %s was not asked for', a.event_id, a.transaction_id) AS detail,
    count(*) OVER () AS total
FROM hooks AS h
INNER JOIN told AS a ON a.listener = h.name
WHERE NOT EXISTS (
    SELECT FROM told AS e
    WHERE
        e.listener = 'stream' AND e.event_id = a.event_id AND e.occurred_at >= h.since
        AND (h.event_types IS NULL OR e.event_type = ANY (h.event_types))
        AND (h.wallet_ids IS NULL OR e.wallet_ids && h.wallet_ids)
)
LIMIT $1;

-- name: forgotten_letters
-- Q: dead letters whose transaction is neither quarantined nor finished nor scheduled (T says whether
-- it should be), and those of good messages whose transaction there is not.
SELECT
    format('dead letter %s', l.id) AS subject,
    format(
        '%s, its transaction (key %s) is %s',
        l.reason, coalesce(a.key, l.key, 'unknown'), coalesce(t.status::text, a.status, 'nowhere')
    ) AS detail,
    count(*) OVER () AS total
FROM letters AS l
LEFT JOIN transactions AS t ON t.id = l.transaction_id
LEFT JOIN asked AS a ON a.key = l.key
WHERE
    l.mark IS NULL
    AND (l.transaction_id IS NOT NULL OR (l.replayed_at IS NULL AND l.discarded_at IS NULL))
    AND coalesce(t.status::text, a.status, 'nowhere')
        NOT IN ('QUARANTINED', 'COMPLETED', 'FAILED', 'REVERSED', 'SCHEDULED')
LIMIT $1;

-- name: place_asked
-- In which place of its wallet each was posted: that of its entry, and, to hold against those that have
-- none (holds and releases), the moment. $1: through how many partitions. With several of them the
-- members of an atomic batch, and journals with their reversals, are posted where one of their wallets
-- is; with one a journal has its place on each.
CREATE TEMPORARY TABLE placed AS
SELECT
    one.kind, one.wallet, one.place,
    a.key, a.type, a.is_batch, a.is_amqp_only, a.sent_s, a.recorded_s, a.confirmed_s,
    a.created_at, a.completed_at
FROM asked AS a
CROSS JOIN LATERAL (
    SELECT 'entry' AS kind, a.wallet, a.sequence AS place
    WHERE a.sequence IS NOT NULL
    UNION ALL
    SELECT 'entry', leg.wallet_id, min(leg.sequence)
    FROM transaction_legs AS leg
    WHERE leg.transaction_id = a.id AND a.type = 'journal' AND NOT leg.is_external
    GROUP BY leg.wallet_id
    HAVING min(leg.sequence) IS NOT NULL AND $1::integer = 1
    UNION ALL
    SELECT 'moment', a.wallet, (extract(EPOCH FROM a.completed_at) * 1e6)::bigint
    WHERE a.status IN ('COMPLETED', 'REVERSED') AND a.type <> 'journal'
) AS one
WHERE
    a.execute_at IS NULL
    AND (
        $1::integer = 1
        OR a.batch IS NULL AND NOT (
            a.type = 'reversal'
            AND EXISTS (SELECT FROM transactions AS o WHERE o.id = a.other_id AND o.type = 'journal')
        )
    );

-- name: analyze_placed
-- The same for what was placed.
ANALYZE placed;

-- name: overtaken
-- O: transactions that were accepted before their submitter sent another one of the same wallet, to
-- whichever process, which was posted before them. $2: through how many partitions. $3: whether
-- what the broker confirmed keeps its order among its like. `is_lost`: an operator deleted a queue
-- with the announcement in it, and it was posted after that: by the reconciler, or when its key was
-- sent again.
SELECT
    format('key %s', o.key) AS subject,
    format(
        'wallet %s: key %s was sent %s s after this one was %s and posted first: '
        'this one, at its %s %s, waited %s s',
        o.wallet, b.key, round((b.sent_s - o.taken_s)::numeric, 3), o.how,
        o.kind, o.place, round(extract(EPOCH FROM o.completed_at - o.created_at), 3)
    ) AS detail,
    o.is_lost,
    o.total
FROM (
    SELECT
        k.*,
        count(*) OVER (PARTITION BY k.is_lost) AS total
    FROM (
        SELECT
            j.*, a.how, a.taken_s, a.before_s, a.is_amqp,
            EXISTS (
                SELECT FROM losses AS l
                WHERE
                    a.taken_s BETWEEN l.began_s AND l.ended_s + 1
                    AND a.taken_s + extract(EPOCH FROM j.completed_at - j.created_at)
                    >= l.ended_s - 1
            ) AS is_lost
        FROM (
            SELECT
                placed.*,
                max(sent_s) OVER earlier AS sent_before_s,
                max(sent_s) FILTER (WHERE is_amqp_only AND ($2 = 1 OR NOT is_batch)) OVER earlier
                    AS sent_over_amqp_before_s
            FROM placed
            WINDOW earlier AS (
                PARTITION BY kind, wallet ORDER BY place
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP
            )
        ) AS j
        CROSS JOIN LATERAL (
            VALUES
            ('recorded', j.recorded_s, j.sent_before_s, false),
            (
                'confirmed',
                CASE WHEN $3 AND ($2 = 1 OR NOT j.is_batch) THEN j.confirmed_s END,
                j.sent_over_amqp_before_s, true
            )
        ) AS a (how, taken_s, before_s, is_amqp)
        WHERE a.before_s > a.taken_s AND (j.kind = 'entry' OR j.type IN ('hold', 'release'))
    ) AS k
    ORDER BY is_lost
    LIMIT $1
) AS o
CROSS JOIN LATERAL (
    SELECT b.key, b.sent_s FROM placed AS b
    WHERE
        b.kind = o.kind AND b.wallet = o.wallet AND b.place < o.place AND b.sent_s = o.before_s
        AND (b.is_amqp_only OR NOT o.is_amqp)
    LIMIT 1
) AS b
ORDER BY o.is_lost;

-- name: count_crossed
-- How many transactions that were sent over HTTP were posted before one that the broker had
-- confirmed before they were sent. Nothing says they must not, yet on a calm day they do not.
SELECT count(*)
FROM (
    SELECT
        confirmed_s, recorded_s,
        max(sent_s) FILTER (WHERE NOT is_amqp_only) OVER (
            PARTITION BY wallet ORDER BY place
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS sent_over_http_before_s
    FROM placed
    WHERE kind = 'entry'
) AS j
WHERE j.recorded_s IS NULL AND j.sent_over_http_before_s > j.confirmed_s;

-- name: make_awaited
-- What has to come to an end before a run is drained.
CREATE TEMPORARY TABLE awaited (
    key text NOT NULL,
    is_letter boolean NOT NULL
);

-- name: drop_finished
-- Strikes off the keys whose transactions have ended, or are not due soon.
DELETE FROM awaited
USING transactions AS t
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = t.id
WHERE
    NOT awaited.is_letter AND t.submitter = $1 AND t.idempotency_key = awaited.key
    AND (
        t.status IN ('COMPLETED', 'FAILED', 'REVERSED')
        OR (t.status = 'SCHEDULED' AND terms.execute_at > clock_timestamp() + interval '1 minute')
    );

-- name: drop_buried
-- Strikes off the marks and keys whose dead letters are stored.
DELETE FROM awaited
USING (
    SELECT DISTINCT unnest(
        ARRAY[
            substring(d.head FROM 'chaos-[-0-9]+-poison-[0-9]+-[0-9]+'),
            substring(d.head FROM '"idempotency_key":"([^"]+)"')
        ]
    ) AS key
    FROM (
        SELECT encode(substring(body FROM 1 FOR 600), 'escape') AS head FROM dead_letters
    ) AS d
) AS buried
WHERE awaited.is_letter AND awaited.key = buried.key;

-- name: count_waiting
-- What is awaited still, and what waits in the tables whoever asked for it. What is due soon is waited
-- for too: so nothing becomes due between the drain and the checks.
SELECT
    (SELECT count(*) FROM awaited) AS awaited,
    CASE
        WHEN EXISTS (SELECT FROM awaited) THEN NULL
        ELSE
            (SELECT count(*) FROM transactions WHERE status = 'PENDING')
            + (
                SELECT count(*) FROM scheduled_transactions
                WHERE execute_at <= clock_timestamp() + interval '1 minute'
            )
            + (
                SELECT count(*) FROM holds
                WHERE status = 'OPEN' AND expires_at <= clock_timestamp() + interval '1 minute'
            )
            + (SELECT count(*) FROM outbox)
            + (SELECT count(*) FROM refused_events)
    END AS unfinished;
