-- migrate:up

-- Which batch the processor wrote last, and when. A batch may be sent while the one before it is
-- still being written: it waits for that commit, and finds here whether it is what it was decided on.
CREATE TABLE posting_turn (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    batch uuid NOT NULL,
    written_at timestamptz NOT NULL
);

INSERT INTO posting_turn (batch, written_at)
VALUES ('00000000-0000-0000-0000-000000000000', '-infinity');

-- Writes a batch as `write_moves` does, in its turn; `seen_*` are the wallets that its refusals rest
-- on. `batch` names it. Where it was decided on the wallets that another one leaves, that one is
-- `behind`, and a row version that is NULL is that one's. Raises AL001 where `behind` is not what was
-- written last: it failed, or was overtaken, and whatever was decided on it is decided again.
CREATE FUNCTION write_moves_in_turn(
    batch uuid,
    behind uuid,
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
    limits json,
    seen_ids uuid[],
    seen_row_versions xid[]
) RETURNS TABLE (
    moment timestamptz,
    row_version xid,
    completed_outbox_id uuid
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    last_batch uuid;
    last_moment timestamptz;
    last_version xid;
BEGIN
    -- 'ackt' in ASCII; migrations, roles and processes have other last letters. Waiting for the row
    -- itself would not do: who comes when it is free goes before those who are still waking up.
    PERFORM pg_advisory_xact_lock(1633905524);
    SELECT t.batch, t.written_at, t.xmin INTO STRICT last_batch, last_moment, last_version
    FROM posting_turn AS t;
    IF behind IS NOT NULL THEN
        PERFORM expect_rows('batch before', 1, (last_batch = behind)::int);
        row_versions := array_replace(row_versions, NULL, last_version);
        seen_row_versions := array_replace(seen_row_versions, NULL, last_version);
    END IF;
    SELECT p.moment, p.row_version, p.completed_outbox_id
    INTO STRICT moment, row_version, completed_outbox_id
    FROM
        write_moves(
            latest_change => greatest(latest_change, last_moment),
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
            limits => limits
        ) AS p;
    PERFORM expect_wallets(wallet_ids => seen_ids, row_versions => seen_row_versions);
    UPDATE posting_turn AS t
    SET batch = write_moves_in_turn.batch, written_at = moment
    WHERE t.only_row;
    RETURN NEXT;
END
$$;
