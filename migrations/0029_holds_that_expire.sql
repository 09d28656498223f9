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
    WITH due AS MATERIALIZED (
        SELECT h.transaction_id, h.wallet_id, h.remaining, f.position
        FROM unnest(found_ids) WITH ORDINALITY AS f (id, position)
        INNER JOIN holds AS h ON h.transaction_id = f.id
        WHERE h.status = 'OPEN'
    ),

    changed AS (
        UPDATE wallets AS w
        SET held = w.held - freed.amount, updated_at = greatest(moment, w.updated_at)
        FROM (
            SELECT d.wallet_id, sum(d.remaining) AS amount FROM due AS d GROUP BY d.wallet_id
        ) AS freed
        WHERE w.id = freed.wallet_id AND w.held >= freed.amount
        RETURNING w.id, w.version, w.balance, w.held, w.overdraft_limit, w.currency
    ),

    ended AS (
        UPDATE holds AS h
        SET remaining = 0, status = 'EXPIRED', updated_at = moment
        FROM due AS d
        INNER JOIN changed AS w ON w.id = d.wallet_id
        WHERE h.transaction_id = d.transaction_id
    ),

    steps AS (
        SELECT
            d.transaction_id, d.position, w.id, w.version, w.balance, w.overdraft_limit, w.currency,
            -- What is held after this one: what is left, and those that follow.
            w.held - d.remaining + sum(d.remaining) OVER (
                PARTITION BY d.wallet_id ORDER BY d.position DESC
            ) AS held
        FROM due AS d
        INNER JOIN changed AS w ON w.id = d.wallet_id
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

    INSERT INTO outbox (id, event_type, transaction_ids, created_at, wallets)
    VALUES (uuid_v7(clock_us(), 0), 'hold_expired', expired_ids, moment, states);
    RETURN cardinality(expired_ids);
END
$$;
