-- migrate:up

-- Raises AL001 where a statement changed another number of rows than it had to.
CREATE FUNCTION expect_rows(of_what text, expected bigint, changed bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF changed <> expected THEN
        RAISE EXCEPTION 'expected % %, changed %', expected, of_what, changed
            USING ERRCODE = 'AL001';
    END IF;
END
$$;

-- What the nudge to whoever waits says: which transactions ended, or nothing where they are many.
CREATE FUNCTION nudge_of(ids uuid[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN cardinality(ids) <= 32 THEN array_to_string(ids, ' ') ELSE '' END
$$;

-- Writes what a batch refuses.
CREATE FUNCTION write_refusals(
    moment timestamptz, refused_ids uuid[], codes text[], details text[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE transactions AS t
    SET
        status = 'FAILED',
        failure_code = r.code::failure_code,
        failure_detail = r.detail,
        completed_at = moment
    FROM unnest(refused_ids, codes, details) AS r (id, code, detail)
    WHERE t.id = r.id AND t.status = 'PENDING';
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('failed', cardinality(refused_ids), changed);

    INSERT INTO exceptional_transactions (status, transaction_id)
    SELECT 'FAILED', r.id FROM unnest(refused_ids) AS r (id);
    INSERT INTO outbox (id, event_type, transaction_ids, created_at)
    VALUES (uuid_v7(clock_us(), 2), 'failed', refused_ids, moment);
END
$$;

-- Writes a batch: balances, entries, statuses, the events owed, and a nudge to whoever waits.
-- A wallet is written only over the version of its row (xmin) that the batch was decided on.
-- All of it or nothing: where the rows are not those that the batch was decided on, it raises AL001.
-- Counted as they are written: statements that return their rows to one another cost a tenth more
-- of the server's time. Returns what the rows have now.
CREATE FUNCTION write_posting(
    latest_change timestamptz,
    wallet_ids uuid[],
    balances bigint[],
    versions bigint[],
    row_versions xid[],
    posted_ids uuid[],
    sources uuid[],
    destinations uuid[],
    amounts bigint[],
    source_sequences bigint[],
    destination_sequences bigint[],
    source_balances bigint[],
    destination_balances bigint[],
    refused_ids uuid[],
    codes text[],
    details text[]
) RETURNS TABLE (
    moment timestamptz,
    row_version xid,
    completed_outbox_id uuid
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    changed bigint;
    posted CONSTANT int := cardinality(posted_ids);
    refused CONSTANT int := cardinality(refused_ids);
BEGIN
    -- Never before a wallet's last change, so entries stay in time order.
    moment := greatest(clock_timestamp(), latest_change);
    row_version := pg_current_xact_id()::xid;

    UPDATE wallets AS w
    SET balance = c.balance, version = c.version, updated_at = moment
    FROM unnest(wallet_ids, balances, versions, row_versions)
        AS c (id, balance, version, row_version)
    WHERE w.id = c.id AND w.xmin = c.row_version;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('wallets', cardinality(wallet_ids), changed);

    UPDATE transactions AS t
    SET
        status = 'COMPLETED',
        source_sequence = p.source_sequence,
        destination_sequence = p.destination_sequence,
        completed_at = moment
    FROM unnest(posted_ids, source_sequences, destination_sequences)
        AS p (id, source_sequence, destination_sequence)
    WHERE t.id = p.id AND t.status = 'PENDING';
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('completed', posted, changed);

    INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
    SELECT d.wallet_id, d.sequence, d.id, -d.amount, d.balance_after, moment
    FROM unnest(posted_ids, sources, amounts, source_sequences, source_balances)
        AS d (id, wallet_id, amount, sequence, balance_after)
    UNION ALL
    SELECT d.wallet_id, d.sequence, d.id, d.amount, d.balance_after, moment
    FROM unnest(posted_ids, destinations, amounts, destination_sequences, destination_balances)
        AS d (id, wallet_id, amount, sequence, balance_after);
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('entries', 2 * posted, changed);

    IF posted > 0 THEN
        completed_outbox_id := uuid_v7(clock_us(), 1);
        INSERT INTO outbox (id, event_type, transaction_ids, created_at)
        VALUES (completed_outbox_id, 'completed', posted_ids, moment);
    END IF;
    IF refused > 0 THEN
        PERFORM write_refusals(moment, refused_ids, codes, details);
    END IF;

    PERFORM pg_notify('ackledger_posted', nudge_of(posted_ids || refused_ids));
    RETURN NEXT;
END
$$;
