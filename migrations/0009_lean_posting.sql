-- migrate:up

-- Writes a batch: balances, entries, statuses, the events owed, and a nudge to whoever waits.
-- Returns how many rows of each it changed; the caller undoes it all where that is not what it
-- decided. Counted as they are written: statements that return their rows to one another cost a
-- tenth more of the server's time.
CREATE FUNCTION write_posting(
    latest_change timestamptz,
    wallet_ids uuid[],
    balances bigint[],
    versions bigint[],
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
) RETURNS TABLE (wallets bigint, completed bigint, failed bigint, entries bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- Never before a locked wallet's last change, so entries stay in time order.
    moment timestamptz := greatest(clock_timestamp(), latest_change);
BEGIN
    UPDATE wallets AS w
    SET balance = c.balance, version = c.version, updated_at = moment
    FROM unnest(wallet_ids, balances, versions) AS c (id, balance, version)
    WHERE w.id = c.id;
    GET DIAGNOSTICS wallets = ROW_COUNT;

    UPDATE transactions AS t
    SET
        status = 'COMPLETED',
        source_sequence = p.source_sequence,
        destination_sequence = p.destination_sequence,
        completed_at = moment
    FROM unnest(posted_ids, source_sequences, destination_sequences)
        AS p (id, source_sequence, destination_sequence)
    WHERE t.id = p.id AND t.status = 'PENDING';
    GET DIAGNOSTICS completed = ROW_COUNT;

    INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
    SELECT d.wallet_id, d.sequence, d.id, -d.amount, d.balance_after, moment
    FROM unnest(posted_ids, sources, amounts, source_sequences, source_balances)
        AS d (id, wallet_id, amount, sequence, balance_after)
    UNION ALL
    SELECT d.wallet_id, d.sequence, d.id, d.amount, d.balance_after, moment
    FROM unnest(posted_ids, destinations, amounts, destination_sequences, destination_balances)
        AS d (id, wallet_id, amount, sequence, balance_after);
    GET DIAGNOSTICS entries = ROW_COUNT;

    UPDATE transactions AS t
    SET
        status = 'FAILED',
        failure_code = r.code::failure_code,
        failure_detail = r.detail,
        completed_at = moment
    FROM unnest(refused_ids, codes, details) AS r (id, code, detail)
    WHERE t.id = r.id AND t.status = 'PENDING';
    GET DIAGNOSTICS failed = ROW_COUNT;

    -- Where somebody else ended one of them the caller undoes this, and the list has it already.
    IF failed = cardinality(refused_ids) THEN
        INSERT INTO exceptional_transactions (status, transaction_id)
        SELECT 'FAILED', r.id FROM unnest(refused_ids) AS r (id);
    END IF;

    INSERT INTO outbox (id, event_type, transaction_ids, created_at)
    SELECT uuid_v7(clock_us(), o.position::integer), o.event_type, o.transaction_ids, moment
    FROM (VALUES (1, 'completed', posted_ids), (2, 'failed', refused_ids))
        AS o (position, event_type, transaction_ids)
    WHERE cardinality(o.transaction_ids) > 0;

    PERFORM pg_notify('ackledger_posted', '');
    RETURN NEXT;
END
$$;
