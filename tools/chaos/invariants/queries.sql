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
    is_after_loss boolean NOT NULL
);

CREATE TEMPORARY TABLE losses (
    began_s double precision NOT NULL,
    ended_s double precision NOT NULL
);

CREATE TEMPORARY TABLE told (
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    transaction_id uuid NOT NULL
);

-- name: analyze_promises
-- Tells the planner how large the copies are: nothing else analyzes a temporary table.
ANALYZE promises, told;

-- name: join_promises
-- One row a key that asked for a transaction, beside the transaction that it became. A key that the
-- broker had confirmed and lost counts as accepted when it was accepted again. `wallet` and `sequence`
-- say in which order plain moves were posted; of what moves nothing, or several wallets, they do not.
CREATE TEMPORARY TABLE asked AS
SELECT
    p.*, t.id, t.status::text AS status, t.created_at, t.completed_at,
    coalesce(p.source, p.destination) AS wallet,
    CASE
        WHEN p.type NOT IN ('deposit', 'withdrawal', 'transfer') THEN NULL
        WHEN p.source IS NULL THEN t.destination_sequence
        ELSE t.source_sequence
    END AS sequence,
    t.type::text AS found_type, t.source_wallet_id AS found_source,
    t.destination_wallet_id AS found_destination, t.amount AS found_minor,
    t.currency AS found_currency
FROM (
    SELECT
        key,
        (array_agg(client ORDER BY sent_s))[1] AS client,
        min(type) AS type,
        (array_agg(source))[1] AS source,
        (array_agg(destination))[1] AS destination,
        min(minor) AS minor,
        min(currency) AS currency,
        min(door) AS door,
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
    WHERE act NOT IN ('other_content', 'poison')
    GROUP BY key
) AS p
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

-- name: analyze_asked
-- The same for what was joined.
ANALYZE asked, letters;

-- name: count_all
-- How much was compared.
SELECT
    (SELECT count(*) FROM promises) AS attempts,
    (SELECT count(*) FROM asked) AS keys,
    (SELECT count(*) FROM asked WHERE status = 'COMPLETED') AS completed,
    (SELECT count(*) FROM asked WHERE status = 'FAILED') AS failed,
    (SELECT count(*) FROM entries) AS entries,
    (SELECT count(*) FROM told) AS events,
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

-- name: wrong_balances
-- C: wallets whose balance is not what the journal's completed transactions come to: plain moves as
-- they were asked for, others by the legs that they became.
SELECT
    format('wallet %s', w.id) AS subject,
    format('its completed promises sum to %s, its balance is %s', m.total, w.balance) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT
        line.wallet_id,
        coalesce(sum(line.amount) FILTER (WHERE line.status IN ('COMPLETED', 'REVERSED')), 0)
            AS total
    FROM (
        SELECT leg.wallet_id, leg.amount, a.status
        FROM asked AS a
        CROSS JOIN LATERAL (VALUES (a.source, -a.minor), (a.destination, a.minor))
            AS leg (wallet_id, amount)
        WHERE a.type IN ('deposit', 'withdrawal', 'transfer')
        UNION ALL
        SELECT leg.wallet_id, leg.amount, a.status
        FROM asked AS a
        INNER JOIN posted_legs AS leg ON leg.transaction_id = a.id
        WHERE a.type NOT IN ('deposit', 'withdrawal', 'transfer')
    ) AS line
    GROUP BY line.wallet_id
) AS m
INNER JOIN wallets AS w ON w.id = m.wallet_id
WHERE w.balance <> m.total
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
-- R: transactions that are not what was asked for under their key.
SELECT
    format('key %s', a.key) AS subject,
    format(
        'asked for a %s of %s %s, transaction %s is a %s of %s %s or has other legs',
        a.type, a.minor, a.currency, a.id, a.found_type, a.found_minor, a.found_currency
    ) AS detail,
    count(*) OVER () AS total
FROM asked AS a
WHERE
    a.id IS NOT NULL
    AND (
        (a.type, a.minor, a.currency) <> (a.found_type, a.found_minor, a.found_currency)
        OR a.source <> a.found_source
        OR a.destination <> a.found_destination
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
WHERE p.outcome = 'refused' AND p.act <> 'other_content'
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

-- name: untold_transactions
-- E: final transactions and expired holds, recorded since the events were listened to, without their
-- event.
SELECT
    format('transaction %s', ended.id) AS subject,
    format('it is %s, and no event told it', ended.what) AS detail,
    count(*) OVER () AS total
FROM (
    SELECT t.id, t.created_at, t.status::text AS what, lower(t.status::text) AS event
    FROM transactions AS t
    WHERE t.status IN ('COMPLETED', 'FAILED', 'REVERSED')
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
        WHERE e.transaction_id = ended.id AND e.event_type = 'transaction.' || ended.event
    )
LIMIT $1;

-- name: renamed_events
-- E: events told under more than one id. A transaction may be quarantined more than once.
SELECT
    format('transaction %s', e.transaction_id) AS subject,
    format('%s was told under %s ids', e.event_type, count(DISTINCT e.event_id)) AS detail,
    count(*) OVER () AS total
FROM told AS e
WHERE e.event_type <> 'transaction.quarantined'
GROUP BY e.transaction_id, e.event_type
HAVING count(DISTINCT e.event_id) > 1
LIMIT $1;

-- name: shared_event_ids
-- E: one event id for different events.
SELECT
    format('event %s', e.event_id) AS subject,
    format('it told %s different things', count(DISTINCT (e.transaction_id, e.event_type))) AS detail,
    count(*) OVER () AS total
FROM told AS e
GROUP BY e.event_id
HAVING count(DISTINCT (e.transaction_id, e.event_type)) > 1
LIMIT $1;

-- name: untrue_events
-- E: events of what is not so.
SELECT DISTINCT
    format('transaction %s', e.transaction_id) AS subject,
    format('%s was told, it is %s', e.event_type, coalesce(t.status::text, 'nowhere')) AS detail,
    count(*) OVER () AS total
FROM told AS e
LEFT JOIN transactions AS t ON t.id = e.transaction_id
WHERE
    NOT CASE e.event_type
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

-- name: forgotten_letters
-- Q: dead letters whose transaction is neither quarantined nor finished, and those of good messages
-- whose transaction there is not.
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
        NOT IN ('QUARANTINED', 'COMPLETED', 'FAILED', 'REVERSED')
LIMIT $1;

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
        'this one, entry %s, waited %s s',
        o.wallet, b.key, round((b.sent_s - o.taken_s)::numeric, 3), o.how,
        o.sequence, round(extract(EPOCH FROM o.completed_at - o.created_at), 3)
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
                asked.*,
                max(sent_s) OVER earlier AS sent_before_s,
                max(sent_s) FILTER (WHERE is_amqp_only AND ($2 = 1 OR NOT is_batch)) OVER earlier
                    AS sent_over_amqp_before_s
            FROM asked
            WHERE sequence IS NOT NULL
            WINDOW earlier AS (
                PARTITION BY wallet ORDER BY sequence
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
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
        WHERE a.before_s > a.taken_s
    ) AS k
    ORDER BY is_lost
    LIMIT $1
) AS o
CROSS JOIN LATERAL (
    SELECT b.key, b.sent_s FROM asked AS b
    WHERE
        b.wallet = o.wallet AND b.sequence < o.sequence AND b.sent_s = o.before_s
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
            PARTITION BY wallet ORDER BY sequence
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS sent_over_http_before_s
    FROM asked
    WHERE sequence IS NOT NULL
) AS j
WHERE j.recorded_s IS NULL AND j.sent_over_http_before_s > j.confirmed_s;

-- name: make_awaited
-- What has to come to an end before a run is drained.
CREATE TEMPORARY TABLE awaited (
    key text NOT NULL,
    is_letter boolean NOT NULL
);

-- name: drop_finished
-- Strikes off the keys whose transactions have ended, or are not due yet.
DELETE FROM awaited
USING transactions AS t
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = t.id
WHERE
    NOT awaited.is_letter AND t.submitter = $1 AND t.idempotency_key = awaited.key
    AND (
        t.status IN ('COMPLETED', 'FAILED', 'REVERSED')
        OR (t.status = 'SCHEDULED' AND terms.execute_at > clock_timestamp())
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
-- What is awaited still, and what waits in the tables whoever asked for it.
SELECT
    (SELECT count(*) FROM awaited) AS awaited,
    CASE
        WHEN EXISTS (SELECT FROM awaited) THEN NULL
        ELSE
            (SELECT count(*) FROM transactions WHERE status = 'PENDING')
            + (SELECT count(*) FROM scheduled_transactions WHERE execute_at <= clock_timestamp())
            + (
                SELECT count(*) FROM holds
                WHERE status = 'OPEN' AND expires_at <= clock_timestamp()
            )
            + (SELECT count(*) FROM outbox)
            + (SELECT count(*) FROM refused_events)
    END AS unfinished;
