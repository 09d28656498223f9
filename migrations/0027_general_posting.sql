-- migrate:up

-- Records requests of which some have terms: the same as `record_transactions`, and for each new one
-- of those what `terms` has for it, a JSON object (null: a plain move). Its keys: hold_id, reverses,
-- expires_in_s, is_final, is_forced, valid_until, execute_at, batch_id, conditions, and legs with
-- wallet_id, currency, amount (minor units, signed) and is_external. What is to be executed later
-- is SCHEDULED.
CREATE FUNCTION record_transactions_with_terms(
    new_channel transaction_channel,
    submitters text[],
    keys text[],
    fingerprints bytea[],
    types text[],
    sources uuid[],
    destinations uuid[],
    amounts bigint[],
    currencies text[],
    descriptions text[],
    metadatas text[],
    request_ids text[],
    traceparents text[],
    terms text[]
) RETURNS TABLE (
    request integer,
    id uuid,
    is_new boolean,
    is_same boolean,
    status transaction_status,
    created_at timestamptz
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    new_ids uuid[];
    new_terms text[];
    requests integer[];
    ids uuid[];
    are_new boolean[];
    are_same boolean[];
BEGIN
    SELECT array_agg(r.request), array_agg(r.id), array_agg(r.is_new), array_agg(r.is_same)
    INTO requests, ids, are_new, are_same
    FROM record_transactions(
        new_channel, submitters, keys, fingerprints, types, sources, destinations, amounts,
        currencies, descriptions, metadatas, request_ids, traceparents
    ) AS r;

    SELECT array_agg(r.id), array_agg(terms[r.request + 1])
    INTO new_ids, new_terms
    FROM unnest(requests, ids, are_new) AS r (request, id, is_new)
    WHERE r.is_new AND terms[r.request + 1] IS NOT NULL;

    IF new_ids IS NOT NULL THEN
        INSERT INTO transaction_terms (
            transaction_id, hold_id, expires_in_s, is_final, is_forced, valid_until, execute_at,
            batch_id, conditions
        )
        SELECT
            n.id, t.hold_id, t.expires_in_s, t.is_final, t.is_forced, t.valid_until, t.execute_at,
            t.batch_id, t.conditions
        FROM unnest(new_ids, new_terms) AS n (id, terms)
        CROSS JOIN LATERAL json_to_record(n.terms::json) AS t (
            hold_id uuid, expires_in_s integer, is_final boolean, is_forced boolean,
            valid_until timestamptz, execute_at timestamptz, batch_id uuid, conditions json
        );

        INSERT INTO transaction_legs (
            transaction_id, position, wallet_id, currency, amount, is_external
        )
        SELECT n.id, leg.position, leg.wallet_id, leg.currency, leg.amount, leg.is_external
        FROM unnest(new_ids, new_terms) AS n (id, terms)
        CROSS JOIN LATERAL ROWS FROM (
            json_to_recordset(n.terms::json -> 'legs') AS (
                wallet_id uuid, currency text, amount bigint, is_external boolean
            )
        ) WITH ORDINALITY AS leg (wallet_id, currency, amount, is_external, position)
        WHERE n.terms::json -> 'legs' IS NOT NULL;

        INSERT INTO scheduled_transactions (execute_at, transaction_id)
        SELECT t.execute_at, t.transaction_id
        FROM unnest(new_ids) AS n (id)
        INNER JOIN transaction_terms AS t ON t.transaction_id = n.id
        WHERE t.execute_at > moment;

        UPDATE transactions AS t
        SET
            has_terms = true,
            reverses = (n.terms::json ->> 'reverses')::uuid,
            status = CASE
                WHEN (n.terms::json ->> 'execute_at')::timestamptz > moment
                    THEN 'SCHEDULED'::transaction_status
                ELSE t.status
            END
        FROM unnest(new_ids, new_terms) AS n (id, terms)
        WHERE t.id = n.id;
    END IF;

    RETURN QUERY
    SELECT r.request, r.id, r.is_new, r.is_same, t.status, t.created_at
    FROM unnest(requests, ids, are_new, are_same) AS r (request, id, is_new, is_same)
    INNER JOIN transactions AS t ON t.id = r.id;
END
$$;

-- What a decision rests on, for posting and for previews. Terms by the transactions' ids.
CREATE FUNCTION book_terms(ids uuid[]) RETURNS TABLE (
    transaction_id uuid,
    hold_id uuid,
    reverses uuid,
    expires_in_s integer,
    is_final boolean,
    is_forced boolean,
    valid_until timestamptz,
    execute_at timestamptz,
    batch_id uuid,
    conditions text,
    legs text
)
LANGUAGE sql STABLE AS $$
    SELECT
        t.transaction_id, t.hold_id, recorded.reverses, t.expires_in_s, t.is_final, t.is_forced,
        t.valid_until, t.execute_at, t.batch_id, t.conditions::text, legs.described
    FROM unnest(ids) AS wanted (id)
    INNER JOIN transaction_terms AS t ON t.transaction_id = wanted.id
    INNER JOIN transactions AS recorded ON recorded.id = wanted.id
    LEFT JOIN LATERAL (
        SELECT json_agg(
            json_build_array(leg.wallet_id, leg.currency, leg.amount, leg.is_external)
            ORDER BY leg.position
        )::text AS described
        FROM transaction_legs AS leg
        WHERE leg.transaction_id = wanted.id
    ) AS legs ON true
$$;

-- Members of these atomic batches.
CREATE FUNCTION book_batch_members(batch_ids uuid[]) RETURNS TABLE (
    batch_id uuid, transaction_id uuid
)
LANGUAGE sql STABLE AS $$
    SELECT t.batch_id, t.transaction_id
    FROM transaction_terms AS t
    WHERE t.batch_id = ANY (batch_ids)
    ORDER BY t.batch_id, t.transaction_id
$$;

-- These holds, and those of these wallets that are open and have expired by a moment.
CREATE FUNCTION book_holds(ids uuid[], wallet_ids uuid[], moment timestamptz)
RETURNS SETOF holds
LANGUAGE sql STABLE AS $$
    SELECT h.* FROM unnest(ids) AS wanted (id) INNER JOIN holds AS h ON h.transaction_id = wanted.id
    UNION
    SELECT h.*
    FROM unnest(wallet_ids) AS wanted (id)
    INNER JOIN holds AS h ON h.wallet_id = wanted.id
    WHERE h.status = 'OPEN' AND h.expires_at <= moment
$$;

-- Transactions that are to be reversed: what they did, and how much of it was reversed already.
CREATE FUNCTION book_originals(ids uuid[]) RETURNS TABLE (
    id uuid,
    type text,
    status text,
    source_wallet_id uuid,
    destination_wallet_id uuid,
    amount bigint,
    currency text,
    is_in_batch boolean,
    legs text,
    reversed_amount bigint
)
LANGUAGE sql STABLE AS $$
    SELECT
        t.id, t.type::text, t.status::text, t.source_wallet_id, t.destination_wallet_id, t.amount,
        t.currency,
        EXISTS (
            SELECT FROM transaction_terms AS terms
            WHERE terms.transaction_id = t.id AND terms.batch_id IS NOT NULL
        ),
        (
            SELECT json_agg(
                json_build_array(leg.wallet_id, leg.currency, leg.amount, leg.is_external)
                ORDER BY leg.position
            )::text
            FROM transaction_legs AS leg
            WHERE leg.transaction_id = t.id
        ),
        coalesce((
            SELECT sum(reversal.amount)
            FROM transactions AS reversal
            WHERE reversal.reverses = t.id AND reversal.status = 'COMPLETED'
        ), 0)::bigint
    FROM unnest(ids) AS wanted (id)
    INNER JOIN transactions AS t ON t.id = wanted.id
$$;

CREATE TYPE wallet_change AS (
    id uuid,
    balance bigint,
    held bigint,
    version bigint,
    forced_overdraft bigint
);

-- What a posted transaction's row has from then on. `amount` where it was not known before;
-- sequences where it has two legs.
CREATE TYPE completion AS (
    id uuid,
    source_wallet_id uuid,
    destination_wallet_id uuid,
    amount bigint,
    source_sequence bigint,
    destination_sequence bigint
);

CREATE TYPE entry_line AS (
    wallet_id uuid,
    sequence bigint,
    transaction_id uuid,
    amount bigint,
    balance_after bigint
);

CREATE TYPE leg_line AS (
    transaction_id uuid,
    position integer,
    wallet_id uuid,
    currency text,
    amount bigint,
    is_external boolean,
    sequence bigint
);

CREATE TYPE hold_state AS (
    transaction_id uuid,
    wallet_id uuid,
    destination_wallet_id uuid,
    currency text,
    amount bigint,
    captured bigint,
    remaining bigint,
    status hold_status,
    expires_at timestamptz
);

-- Writes a batch that was decided on locked rows: as `write_posting` does, for transactions of every
-- type. `reversed_ids` are the transactions that are now reversed as a whole, `expired_ids` the holds
-- that expired. `states`: the wallets as each transaction left them, for its event. Where the rows
-- are not those that the batch was decided on, it raises AL001. Returns the row of the outbox that owes
-- the events of what was completed.
CREATE FUNCTION write_book(
    moment timestamptz,
    wallets wallet_change[],
    entries entry_line[],
    completed completion[],
    legs leg_line[],
    holds hold_state[],
    expired_ids uuid[],
    reversed_ids uuid[],
    refused_ids uuid[],
    codes text[],
    details text[],
    states json,
    reversal_states json
) RETURNS uuid
LANGUAGE plpgsql
-- A price on each row that is visited keeps lookups by key where tables were small when they were
-- analysed last: see 0011.
SET cpu_tuple_cost = 1000
SET enable_memoize = off
AS $$
#variable_conflict use_column
DECLARE
    changed bigint;
    completed_ids uuid[];
    completed_outbox_id uuid;
BEGIN
    UPDATE wallets AS w
    SET
        balance = c.balance,
        held = c.held,
        version = c.version,
        forced_overdraft = c.forced_overdraft,
        updated_at = greatest(moment, w.updated_at)
    FROM unnest(wallets) AS c
    WHERE w.id = c.id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('wallets', cardinality(wallets), changed);

    UPDATE transactions AS t
    SET
        status = 'COMPLETED',
        source_wallet_id = coalesce(t.source_wallet_id, c.source_wallet_id),
        destination_wallet_id = coalesce(t.destination_wallet_id, c.destination_wallet_id),
        amount = coalesce(t.amount, c.amount),
        source_sequence = c.source_sequence,
        destination_sequence = c.destination_sequence,
        completed_at = moment
    FROM unnest(completed) AS c
    WHERE t.id = c.id AND t.status = 'PENDING';
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('completed', cardinality(completed), changed);

    INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
    SELECT e.wallet_id, e.sequence, e.transaction_id, e.amount, e.balance_after, moment
    FROM unnest(entries) AS e;

    INSERT INTO transaction_legs AS leg (
        transaction_id, position, wallet_id, currency, amount, is_external, sequence
    )
    SELECT
        l.transaction_id, l.position, l.wallet_id, l.currency, l.amount, l.is_external, l.sequence
    FROM unnest(legs) AS l
    ON CONFLICT (transaction_id, position) DO UPDATE SET sequence = excluded.sequence;

    INSERT INTO holds AS h (
        transaction_id, wallet_id, destination_wallet_id, currency, amount, captured, remaining,
        status, expires_at, updated_at
    )
    SELECT
        c.transaction_id, c.wallet_id, c.destination_wallet_id, c.currency, c.amount, c.captured,
        c.remaining, c.status, c.expires_at, moment
    FROM unnest(holds) AS c
    ON CONFLICT (transaction_id) DO UPDATE
    SET
        captured = excluded.captured,
        remaining = excluded.remaining,
        status = excluded.status,
        updated_at = excluded.updated_at;

    IF cardinality(expired_ids) > 0 THEN
        INSERT INTO outbox (id, event_type, transaction_ids, created_at, wallets)
        VALUES (uuid_v7(clock_us(), 0), 'hold_expired', expired_ids, moment, states);
    END IF;
    IF cardinality(completed) > 0 THEN
        SELECT array_agg(c.id ORDER BY c.position)
        INTO completed_ids
        FROM unnest(completed) WITH ORDINALITY AS c (
            id, source_wallet_id, destination_wallet_id, amount, source_sequence,
            destination_sequence, position
        );
        completed_outbox_id := uuid_v7(clock_us(), 1);
        INSERT INTO outbox (id, event_type, transaction_ids, created_at, wallets)
        VALUES (completed_outbox_id, 'completed', completed_ids, moment, states);
    END IF;
    IF cardinality(refused_ids) > 0 THEN
        PERFORM write_refusals(moment, refused_ids, codes, details);
    END IF;
    IF cardinality(reversed_ids) > 0 THEN
        PERFORM reverse_transactions(moment, reversed_ids, reversal_states);
    END IF;

    PERFORM pg_notify('ackledger_posted', nudge_of(coalesce(completed_ids, '{}') || refused_ids));
    RETURN completed_outbox_id;
END
$$;

-- Notes that transactions are reversed as a whole, and owes the events. All or none.
CREATE FUNCTION reverse_transactions(
    moment timestamptz, reversed_ids uuid[], states json
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE transactions AS t SET status = 'REVERSED'
    WHERE t.id = ANY (reversed_ids) AND t.status = 'COMPLETED';
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('reversed', cardinality(reversed_ids), changed);
    INSERT INTO exceptional_transactions (status, transaction_id)
    SELECT 'REVERSED', r.id FROM unnest(reversed_ids) AS r (id);
    INSERT INTO outbox (id, event_type, transaction_ids, created_at, wallets)
    VALUES (uuid_v7(clock_us(), 3), 'reversed', reversed_ids, moment, states);
END
$$;

-- What is held of a wallet at this instant: an open hold that has expired is worth nothing. By the
-- statement's time, which an index is searched for; what clock_timestamp() says would be compared
-- with every open hold of the wallet.
CREATE FUNCTION held_now(wallet uuid, held bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN held = 0 THEN 0 ELSE held - coalesce((
        SELECT sum(h.remaining) FROM holds AS h
        WHERE h.wallet_id = wallet AND h.status = 'OPEN' AND h.expires_at <= statement_timestamp()
    ), 0)::bigint END
$$;

-- A transaction as clients read it. Each entry is looked up by its key. The columns up to
-- `reversed_by` are those that the view always had.
CREATE OR REPLACE VIEW transaction_views AS
SELECT
    t.id, t.submitter, t.idempotency_key, t.fingerprint, t.channel, t.type, t.source_wallet_id,
    t.destination_wallet_id, t.amount, t.currency, t.status, t.failure_code, t.failure_detail,
    t.description, t.metadata, t.source_sequence, t.destination_sequence, t.reverses, t.request_id,
    t.traceparent, t.created_at, t.completed_at,
    (
        SELECT e.balance_after FROM entries AS e
        WHERE e.wallet_id = t.source_wallet_id AND e.sequence = t.source_sequence
    ) AS source_balance_after,
    (
        SELECT e.balance_after FROM entries AS e
        WHERE e.wallet_id = t.destination_wallet_id AND e.sequence = t.destination_sequence
    ) AS destination_balance_after,
    -- The reversal that completed it: the last one, where the whole is reversed.
    CASE
        WHEN t.status = 'REVERSED' THEN (
            SELECT r.id FROM transactions AS r
            WHERE r.reverses = t.id AND r.status = 'COMPLETED'
            ORDER BY r.completed_at DESC, r.source_sequence DESC
            LIMIT 1
        )
    END AS reversed_by,
    t.has_terms,
    terms.hold_id, terms.valid_until, terms.execute_at, terms.batch_id,
    CASE
        WHEN t.has_terms THEN (
            SELECT json_agg(
                json_build_array(
                    leg.wallet_id, leg.currency, leg.amount, leg.is_external, leg.sequence,
                    (
                        SELECT e.balance_after FROM entries AS e
                        WHERE e.wallet_id = leg.wallet_id AND e.sequence = leg.sequence
                    )
                )
                ORDER BY leg.position
            )::text
            FROM transaction_legs AS leg
            WHERE leg.transaction_id = t.id
        )
    END AS legs,
    CASE
        WHEN t.type = 'hold' THEN (
            SELECT json_build_array(
                CASE
                    WHEN h.status = 'OPEN' AND h.expires_at <= clock_timestamp() THEN 'EXPIRED'
                    ELSE h.status::text
                END,
                CASE
                    WHEN h.status = 'OPEN' AND h.expires_at <= clock_timestamp() THEN 0
                    ELSE h.remaining
                END,
                h.captured,
                to_char(h.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            )::text
            FROM holds AS h
            WHERE h.transaction_id = t.id
        )
    END AS hold,
    reversing.ids AS reversals,
    reversing.amount AS reversed_amount
FROM transactions AS t
LEFT JOIN transaction_terms AS terms ON t.has_terms AND terms.transaction_id = t.id
LEFT JOIN LATERAL (
    SELECT array_agg(r.id ORDER BY r.id) AS ids, sum(r.amount)::bigint AS amount
    FROM transactions AS r
    WHERE r.reverses = t.id AND r.status = 'COMPLETED'
) AS reversing ON true;
