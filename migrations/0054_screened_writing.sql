-- migrate:up

-- Holds transactions back for review: they stay PENDING. Whatever lists them for another try lets
-- them go. Raises AL001 where one of them is PENDING no longer.
CREATE FUNCTION hold_back(moment timestamptz, ids uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE transactions AS t SET has_terms = true
    WHERE t.id = ANY (ids) AND t.status = 'PENDING';
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('held back', cardinality(ids), changed);
    INSERT INTO transaction_terms (transaction_id)
    SELECT h.id FROM unnest(ids) AS h (id)
    ON CONFLICT (transaction_id) DO NOTHING;
    INSERT INTO reviewed_transactions AS r (transaction_id, is_held, since)
    SELECT h.id, true, moment FROM unnest(ids) AS h (id)
    ON CONFLICT (transaction_id) DO UPDATE SET is_held = true, since = excluded.since;
    DELETE FROM stale_transactions AS s WHERE s.transaction_id = ANY (ids);
    DELETE FROM unannounced_transactions AS u WHERE u.transaction_id = ANY (ids);
END
$$;

-- Writes what screening a batch came to, beside what the batch is written by: what its transactions
-- count for (the counters exist, and are locked), which wallets have paid which now, flags, and what
-- is held back, each with the rules that ask for a review. Raises AL001 where the rules are others.
CREATE FUNCTION write_screening(
    decided_under bigint,
    moment timestamptz,
    counter_keys text[],
    buckets bigint[],
    rings text[],
    sources uuid[],
    destinations uuid[],
    flagged_ids uuid[],
    flagged_by uuid[],
    held_ids uuid[],
    reviewed_ids uuid[],
    reviewed_for uuid[]
) RETURNS void
LANGUAGE plpgsql
SET cpu_tuple_cost = 1000
SET enable_memoize = off
AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE rule_counters AS c SET bucket = n.bucket, amounts = n.ring
    FROM unnest(counter_keys, buckets, rings) AS n (key, bucket, ring)
    WHERE c.key = n.key;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('counters', cardinality(counter_keys), changed);

    INSERT INTO seen_destinations (source_wallet_id, destination_wallet_id)
    SELECT p.source, p.destination FROM unnest(sources, destinations) AS p (source, destination)
    ORDER BY p.source, p.destination
    ON CONFLICT (source_wallet_id, destination_wallet_id) DO NOTHING;

    INSERT INTO flags (transaction_id, rule_id, created_at)
    SELECT f.id, f.rule_id, moment FROM unnest(flagged_ids, flagged_by) AS f (id, rule_id);

    IF cardinality(held_ids) > 0 THEN
        PERFORM hold_back(moment, held_ids);
        INSERT INTO reviews (id, transaction_id, rule_id, created_at)
        SELECT uuid_v7(clock_us(), r.position::integer), r.id, r.rule_id, moment
        FROM unnest(reviewed_ids, reviewed_for) WITH ORDINALITY AS r (id, rule_id, position);
    END IF;
    PERFORM expect_rules(decided_under);
END
$$;

-- The transactions that end or wait together with one: the members of its atomic batch that are in
-- a status, or itself alone. Locked in id order, as posting does.
CREATE FUNCTION lock_whole_batch(named uuid, wanted transaction_status) RETURNS uuid[]
LANGUAGE sql AS $$
    SELECT array_agg(locked.id ORDER BY locked.id)
    FROM (
        SELECT t.id FROM transactions AS t
        WHERE
            t.status = wanted
            AND t.id IN (
                SELECT named
                UNION ALL
                SELECT other.transaction_id
                FROM transaction_terms AS own
                INNER JOIN transaction_terms AS other ON other.batch_id = own.batch_id
                WHERE own.transaction_id = named
            )
        ORDER BY t.id
        FOR NO KEY UPDATE OF t
    ) AS locked
$$;
