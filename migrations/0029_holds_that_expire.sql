-- migrate:up

-- Ends at most so many open holds that have expired, the longest ones first, and returns how many:
-- what is held of their wallets is lowered, and one row of the outbox owes the events, each with the
-- wallet as that hold left it. Wallets are locked first and in id order, as posting does; whoever
-- changes a hold holds its wallet. A wallet that holds less than its holds say is left to `verify`.
CREATE FUNCTION expire_holds(most integer) RETURNS integer
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- A value, since no index is searched for what clock_timestamp() says anew for each row.
    moment CONSTANT timestamptz := clock_timestamp();
    found_ids uuid[];
    wallet_ids uuid[];
    expired_ids uuid[];
    states json;
BEGIN
    SELECT array_agg(h.transaction_id ORDER BY h.expires_at, h.transaction_id),
        array_agg(DISTINCT h.wallet_id)
    INTO found_ids, wallet_ids
    FROM (
        SELECT o.transaction_id, o.wallet_id, o.expires_at
        FROM holds AS o
        WHERE o.status = 'OPEN' AND o.expires_at <= moment
        ORDER BY o.expires_at, o.transaction_id
        LIMIT most
    ) AS h;
    IF found_ids IS NULL THEN
        RETURN 0;
    END IF;

    PERFORM
    FROM unnest(wallet_ids) AS wanted (id)
    INNER JOIN wallets AS w ON w.id = wanted.id
    ORDER BY w.id
    FOR NO KEY UPDATE OF w;

    -- A statement of its own: it sees what those changed for whom the locks waited.
    -- The holds travel along in arrays: to join them again to their wallets would compare each with
    -- each, since this session joins by lookups alone.
    WITH due AS MATERIALIZED (
        SELECT
            h.wallet_id, sum(h.remaining) AS amount,
            array_agg(h.transaction_id ORDER BY f.position) AS ids,
            array_agg(h.remaining ORDER BY f.position) AS remainders,
            array_agg(f.position ORDER BY f.position) AS positions
        FROM unnest(found_ids) WITH ORDINALITY AS f (id, position)
        INNER JOIN holds AS h ON h.transaction_id = f.id
        WHERE h.status = 'OPEN'
        GROUP BY h.wallet_id
    ),

    changed AS (
        UPDATE wallets AS w
        SET held = w.held - due.amount, updated_at = greatest(moment, w.updated_at)
        FROM due
        WHERE w.id = due.wallet_id AND w.held >= due.amount
        RETURNING
            w.id, w.currency, w.version, w.balance, w.held, w.overdraft_limit, due.ids,
            due.remainders, due.positions
    ),

    steps AS (
        SELECT
            one.transaction_id, one.position, w.id, w.currency, w.version, w.balance,
            w.overdraft_limit,
            -- What is held after this one: what is left, and those that follow.
            w.held - one.remaining + sum(one.remaining) OVER (
                PARTITION BY w.id ORDER BY one.position DESC
            ) AS held
        FROM changed AS w
        CROSS JOIN LATERAL unnest(w.ids, w.remainders, w.positions)
            AS one (transaction_id, remaining, position)
    )

    SELECT
        array_agg(s.transaction_id ORDER BY s.position),
        json_object_agg(
            s.transaction_id,
            json_build_array(
                json_build_array(
                    s.id, s.version, s.balance, s.held, s.balance - s.held + s.overdraft_limit,
                    s.currency
                )
            )
        )
    INTO expired_ids, states
    FROM steps AS s;
    IF expired_ids IS NULL THEN
        RETURN 0;
    END IF;

    UPDATE holds AS h
    SET remaining = 0, status = 'EXPIRED', updated_at = moment
    FROM unnest(expired_ids) AS e (id)
    WHERE h.transaction_id = e.id;
    INSERT INTO outbox (id, event_type, transaction_ids, created_at, wallets)
    VALUES (uuid_v7(clock_us(), 0), 'hold_expired', expired_ids, moment, states);
    RETURN cardinality(expired_ids);
END
$$;
