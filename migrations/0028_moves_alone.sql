-- migrate:up

-- Writes a batch: balances, entries, statuses, the events owed, and a nudge to whoever waits.
-- A wallet is written only over the version of its row (xmin) that the batch was decided on.
-- All of it or nothing: where the rows are not those that the batch was decided on, it raises AL001.
-- Plain moves alone: a transaction with terms is no row that it changes (a processor of an older
-- release would post it without them). `limits`: see `outbox.wallets`. The prices: see 0011.
-- Counted as they are written: statements that return their rows to one another cost a tenth more
-- of the server's time. Returns what the rows have now.
CREATE FUNCTION write_moves(
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
    details text[],
    limits json
) RETURNS TABLE (
    moment timestamptz,
    row_version xid,
    completed_outbox_id uuid
)
LANGUAGE plpgsql
SET cpu_tuple_cost = 1000
SET enable_memoize = off
AS $$
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
    WHERE t.id = p.id AND t.status = 'PENDING' AND t.has_terms IS NULL;
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
        INSERT INTO outbox (id, event_type, transaction_ids, created_at, wallets)
        VALUES (completed_outbox_id, 'completed', posted_ids, moment, limits);
    END IF;
    IF refused > 0 THEN
        PERFORM write_refusals(moment, refused_ids, codes, details);
    END IF;

    PERFORM pg_notify('ackledger_posted', nudge_of(posted_ids || refused_ids));
    RETURN NEXT;
END
$$;

-- What processors of the release before call.
CREATE OR REPLACE FUNCTION write_posting(
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
LANGUAGE sql AS $$
    SELECT * FROM write_moves(
        latest_change => latest_change,
        wallet_ids => wallet_ids,
        balances => balances,
        versions => versions,
        row_versions => row_versions,
        posted_ids => posted_ids,
        sources => sources,
        destinations => destinations,
        amounts => amounts,
        source_sequences => source_sequences,
        destination_sequences => destination_sequences,
        source_balances => source_balances,
        destination_balances => destination_balances,
        refused_ids => refused_ids,
        codes => codes,
        details => details,
        limits => NULL
    )
$$;
