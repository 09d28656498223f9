-- migrate:up

-- Writes a batch: balances, entries, statuses, the events owed, and a nudge to whoever waits.
-- A wallet is written only over the version of its row (xmin) that the batch was decided on.
-- Returns how many rows of each it changed; the caller undoes it all where that is not what it
-- decided. Counted as they are written: statements that return their rows to one another cost a
-- tenth more of the server's time. The rest of what it returns is what the rows have now.
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
    wallets bigint,
    completed bigint,
    failed bigint,
    entries bigint,
    moment timestamptz,
    row_version xid,
    completed_outbox_id uuid
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- Never before a wallet's last change, so entries stay in time order.
    moment := greatest(clock_timestamp(), latest_change);
    row_version := pg_current_xact_id()::xid;

    UPDATE wallets AS w
    SET balance = c.balance, version = c.version, updated_at = moment
    FROM unnest(wallet_ids, balances, versions, row_versions)
        AS c (id, balance, version, row_version)
    WHERE w.id = c.id AND w.xmin = c.row_version;
    GET DIAGNOSTICS wallets = ROW_COUNT;
    -- The caller undoes what was decided on other rows; their entries may be there already.
    IF wallets <> cardinality(wallet_ids) THEN
        RETURN NEXT;
        RETURN;
    END IF;

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

    IF completed > 0 THEN
        completed_outbox_id := uuid_v7(clock_us(), 1);
        INSERT INTO outbox (id, event_type, transaction_ids, created_at)
        VALUES (completed_outbox_id, 'completed', posted_ids, moment);
    END IF;
    IF failed > 0 THEN
        INSERT INTO outbox (id, event_type, transaction_ids, created_at)
        VALUES (uuid_v7(clock_us(), 2), 'failed', refused_ids, moment);
    END IF;

    PERFORM pg_notify('ackledger_posted', '');
    RETURN NEXT;
END
$$;
