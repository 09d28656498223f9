-- migrate:up

-- Ids for so many transactions that are recorded at one moment (microseconds), in the order of their
-- places.
CREATE FUNCTION transaction_ids(at_us bigint, transactions integer) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    -- What the ids of a group share: the first eight of uuid_v7's bytes, as hexadecimals.
    shared CONSTANT text := left(replace(uuid_v7(at_us)::text, '-', ''), 16);
    -- Random once for a group: each id's own bits are made of it and the position. Drawing them for
    -- each cost more than all else about an id.
    seed CONSTANT bigint := hashtextextended(gen_random_uuid()::text, 0);
BEGIN
    -- The variant's two bits and the position in the group are bytes 8 and 9, then come 48 own bits.
    RETURN (
        SELECT array_agg((
            shared || to_hex(32768 | (n.position & 16383))
            || lpad(to_hex(hashint8extended(n.position, seed) & 281474976710655), 12, '0')
        )::uuid ORDER BY n.position)
        FROM generate_series(1, transactions) AS n (position)
    );
END
$$;

-- As before (0008), with ids from `transaction_ids`.
CREATE OR REPLACE FUNCTION record_transactions(
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
    traceparents text[]
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
    at_us bigint := clock_us();
    moment timestamptz := timestamptz 'epoch' + at_us * interval '1 microsecond';
    requests integer := cardinality(keys);
    ids uuid[] := transaction_ids(at_us, requests);
    inserted integer;
BEGIN
    -- In key order, so that two groups with the same keys wait for each other and never deadlock.
    -- A key that stands twice in one group goes to its first request.
    INSERT INTO transactions (
        id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
        destination_wallet_id, amount, currency, description, metadata, request_id,
        traceparent, created_at
    )
    SELECT
        r.id, r.submitter, r.key, r.fingerprint, new_channel, r.type::transaction_type, r.source,
        r.destination, r.amount, r.currency, r.description, r.metadata::json, r.request_id,
        r.traceparent, moment
    FROM unnest(
        ids, submitters, keys, fingerprints, types, sources, destinations, amounts, currencies,
        descriptions, metadatas, request_ids, traceparents
    ) AS r (
        id, submitter, key, fingerprint, type, source, destination, amount, currency,
        description, metadata, request_id, traceparent
    )
    ORDER BY r.submitter COLLATE "C", r.key COLLATE "C", r.id
    ON CONFLICT (submitter, idempotency_key) DO NOTHING;
    GET DIAGNOSTICS inserted = ROW_COUNT;

    -- A statement of its own: it sees what another group committed while the insert waited for it.
    IF inserted = requests THEN
        RETURN QUERY
        SELECT
            r.position::integer - 1, r.id, true, true, 'PENDING'::transaction_status, moment
        FROM unnest(ids) WITH ORDINALITY AS r (id, position);
    ELSE
        RETURN QUERY
        SELECT
            r.position::integer - 1, t.id, t.id = r.id, t.fingerprint = r.fingerprint, t.status,
            t.created_at
        FROM unnest(ids, submitters, keys, fingerprints) WITH ORDINALITY
            AS r (id, submitter, key, fingerprint, position)
        INNER JOIN transactions AS t
            ON t.submitter = r.submitter AND t.idempotency_key = r.key;
    END IF;
END
$$;

-- Writes what a batch of plain moves comes to, at a moment that is not before any of its wallets'
-- last change, and returns the outbox row of what it posted, if it posted anything. `are_recorded`:
-- its transactions are PENDING rows; otherwise its posted ones have their rows already.
CREATE FUNCTION post_moves(
    moment timestamptz,
    are_recorded boolean,
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
) RETURNS uuid
LANGUAGE plpgsql
SET cpu_tuple_cost = 1000
SET enable_memoize = off
AS $$
#variable_conflict use_column
DECLARE
    changed bigint;
    posted CONSTANT int := cardinality(posted_ids);
    completed_outbox_id uuid;
BEGIN
    UPDATE wallets AS w
    SET balance = c.balance, version = c.version, updated_at = moment
    FROM unnest(wallet_ids, balances, versions, row_versions)
        AS c (id, balance, version, row_version)
    WHERE w.id = c.id AND w.xmin = c.row_version;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('wallets', cardinality(wallet_ids), changed);

    IF are_recorded THEN
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
    END IF;

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
    IF cardinality(refused_ids) > 0 THEN
        PERFORM write_refusals(moment, refused_ids, codes, details);
    END IF;

    PERFORM pg_notify('ackledger_posted', nudge_of(posted_ids || refused_ids));
    RETURN completed_outbox_id;
END
$$;

-- Writes a batch of recorded moves, as before (0028).
CREATE OR REPLACE FUNCTION write_moves(
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
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- Never before a wallet's last change, so entries stay in time order.
    moment := greatest(clock_timestamp(), latest_change);
    row_version := pg_current_xact_id()::xid;
    completed_outbox_id := post_moves(
        moment => moment,
        are_recorded => true,
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
    );
    RETURN NEXT;
END
$$;

-- How many transactions have ended so far that were never PENDING: posted as they were recorded.
ALTER TABLE posting_turn ADD COLUMN drafts bigint NOT NULL DEFAULT 0;

-- Records drafts: transactions that are decided before they have a row. Those of `posted_ids`, which
-- have sequences, are COMPLETED rows at once; those of `refused_ids` behind them are PENDING. Raises
-- AL001 where a key was used meanwhile.
CREATE FUNCTION record_drafts(
    moment timestamptz,
    drafted_at timestamptz,
    ids uuid[],
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
    source_sequences bigint[],
    destination_sequences bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    inserted bigint;
BEGIN
    -- In key order, as in record_transactions. Where there are fewer sequences than ids, the others
    -- have none.
    INSERT INTO transactions (
        id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
        destination_wallet_id, amount, currency, status, description, metadata, source_sequence,
        destination_sequence, request_id, traceparent, created_at, completed_at
    )
    SELECT
        d.id, d.submitter, d.key, d.fingerprint, 'amqp', d.type::transaction_type, d.source,
        d.destination, d.amount, d.currency,
        CASE WHEN d.source_sequence IS NULL THEN 'PENDING' ELSE 'COMPLETED' END::transaction_status,
        d.description, d.metadata::json, d.source_sequence, d.destination_sequence, d.request_id,
        d.traceparent, drafted_at, CASE WHEN d.source_sequence IS NOT NULL THEN moment END
    FROM unnest(
        ids, submitters, keys, fingerprints, types, sources, destinations, amounts, currencies,
        descriptions, metadatas, request_ids, traceparents, source_sequences, destination_sequences
    ) AS d (
        id, submitter, key, fingerprint, type, source, destination, amount, currency, description,
        metadata, request_id, traceparent, source_sequence, destination_sequence
    )
    ORDER BY d.submitter COLLATE "C", d.key COLLATE "C"
    ON CONFLICT (submitter, idempotency_key) DO NOTHING;
    GET DIAGNOSTICS inserted = ROW_COUNT;
    PERFORM expect_rows('drafts', cardinality(ids), inserted);
END
$$;

-- Writes a batch as `write_moves` does, in its turn, as `write_moves_in_turn` (0075) does for
-- processes of the release before. Where `drafted_at` is not NULL its transactions are drafts; the
-- arrays that begin with `draft_` are in the order of `posted_ids`, then of `refused_ids`.
CREATE FUNCTION write_batch_in_turn(
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
    seen_row_versions xid[],
    drafted_at timestamptz,
    draft_submitters text[],
    draft_keys text[],
    draft_fingerprints bytea[],
    draft_types text[],
    draft_sources uuid[],
    draft_destinations uuid[],
    draft_amounts bigint[],
    draft_currencies text[],
    draft_descriptions text[],
    draft_metadatas text[],
    draft_request_ids text[],
    draft_traceparents text[]
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
    are_drafts CONSTANT boolean := drafted_at IS NOT NULL;
BEGIN
    -- Whoever walks over the ids stays a second before the start of whoever writes (`read_horizon`),
    -- and as long behind the present: half of it is for a start that is not seen yet.
    IF drafted_at < transaction_timestamp() - interval '500 milliseconds' THEN
        RAISE EXCEPTION 'drafts of % are too old', drafted_at USING ERRCODE = 'AL001';
    END IF;
    -- Before any wait: who has a transaction's number is known to write.
    row_version := pg_current_xact_id()::xid;
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
    -- Never before a wallet's last change, so entries stay in time order.
    moment := greatest(clock_timestamp(), latest_change, last_moment);
    IF are_drafts THEN
        PERFORM record_drafts(
            moment => moment,
            drafted_at => drafted_at,
            ids => posted_ids || refused_ids,
            submitters => draft_submitters,
            keys => draft_keys,
            fingerprints => draft_fingerprints,
            types => draft_types,
            sources => draft_sources,
            destinations => draft_destinations,
            amounts => draft_amounts,
            currencies => draft_currencies,
            descriptions => draft_descriptions,
            metadatas => draft_metadatas,
            request_ids => draft_request_ids,
            traceparents => draft_traceparents,
            source_sequences => source_sequences,
            destination_sequences => destination_sequences
        );
    END IF;
    completed_outbox_id := post_moves(
        moment => moment,
        are_recorded => NOT are_drafts,
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
    );
    PERFORM expect_wallets(wallet_ids => seen_ids, row_versions => seen_row_versions);
    UPDATE posting_turn AS t
    SET
        batch = write_batch_in_turn.batch,
        written_at = moment,
        drafts = t.drafts + CASE WHEN are_drafts THEN cardinality(posted_ids) ELSE 0 END
    WHERE t.only_row;
    RETURN NEXT;
END
$$;
