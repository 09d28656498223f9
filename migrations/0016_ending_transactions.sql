-- migrate:up

-- Ends transactions, or sets them aside: status, failure, the list of rare states, the event owed,
-- and a nudge to whoever waits. All that are named or none: where one of them is not in the status
-- `from_status` any more, it raises AL001. Callers that cannot know lock first. Returns the ids.
-- Only COMPLETED is written elsewhere (write_posting), since it comes with entries and balances.
CREATE FUNCTION end_transactions(
    moment timestamptz,
    ids uuid[],
    from_status transaction_status,
    to_status transaction_status,
    codes text[],
    details text[]
) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE transactions AS t
    SET
        status = to_status,
        failure_code = e.code::failure_code,
        failure_detail = e.detail,
        -- What is set aside has not ended.
        completed_at = CASE WHEN to_status = 'FAILED' THEN moment END
    FROM unnest(ids, codes, details) AS e (id, code, detail)
    WHERE t.id = e.id AND t.status = from_status;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows(lower(to_status::text), cardinality(ids), changed);

    IF from_status = 'QUARANTINED' THEN
        DELETE FROM exceptional_transactions AS x
        WHERE x.status = 'QUARANTINED' AND x.transaction_id = ANY (ids);
    END IF;
    INSERT INTO exceptional_transactions (status, transaction_id)
    SELECT to_status, e.id FROM unnest(ids) AS e (id);
    -- Second of its commit: `write_posting` may owe the completed ones first.
    INSERT INTO outbox (id, event_type, transaction_ids, created_at)
    VALUES (uuid_v7(clock_us(), 2), lower(to_status::text), ids, moment);

    IF to_status = 'FAILED' THEN
        PERFORM pg_notify('ackledger_posted', nudge_of(ids));
    END IF;
    RETURN ids;
END
$$;

-- What a batch refuses ends by the same function. `write_posting` names these ids in its own nudge,
-- too; whoever waits has no use for the second one, and it does no harm.
CREATE OR REPLACE FUNCTION write_refusals(
    moment timestamptz, refused_ids uuid[], codes text[], details text[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM end_transactions(
        moment => moment,
        ids => refused_ids,
        from_status => 'PENDING',
        to_status => 'FAILED',
        codes => codes,
        details => details
    );
END
$$;
