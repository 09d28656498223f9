-- migrate:up

-- Records requests as PENDING transactions: the one way in, for the ingress and the processor.
-- Arrays of equal length, a request each, in accepted order. Returns a row a request:
-- `is_new`: inserted by this call; otherwise `is_same` tells if the first request under this key
-- had the same content, and `status` in what state it is.
CREATE FUNCTION record_transactions(
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
    inserted_ids uuid[];
    inserted_keys text[];
    inserted_submitters text[];
    requests integer := cardinality(keys);
BEGIN
    -- In key order, so that two groups with the same keys wait for each other and never deadlock.
    -- A key that stands twice in one group goes to its first request.
    WITH inserted AS (
        INSERT INTO transactions AS t (
            id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
            destination_wallet_id, amount, currency, description, metadata, request_id,
            traceparent, created_at
        )
        SELECT
            uuid_v7(at_us, r.position::integer), r.submitter, r.key, r.fingerprint, new_channel,
            r.type::transaction_type, r.source, r.destination, r.amount, r.currency,
            r.description, r.metadata::json, r.request_id, r.traceparent, moment
        FROM unnest(
            submitters, keys, fingerprints, types, sources, destinations, amounts, currencies,
            descriptions, metadatas, request_ids, traceparents
        ) WITH ORDINALITY AS r (
            submitter, key, fingerprint, type, source, destination, amount, currency,
            description, metadata, request_id, traceparent, position
        )
        ORDER BY r.submitter, r.key, r.position
        ON CONFLICT (submitter, idempotency_key) DO NOTHING
        RETURNING t.id, t.submitter, t.idempotency_key
    )
    SELECT array_agg(i.id), array_agg(i.idempotency_key), array_agg(i.submitter)
    INTO inserted_ids, inserted_keys, inserted_submitters
    FROM inserted AS i;

    -- A statement of its own: it sees what another group committed while the insert waited for it.
    IF coalesce(cardinality(inserted_ids), 0) = requests THEN
        RETURN QUERY
        SELECT
            -- The position stands in the id: bytes 8 and 9 without the variant's two bits.
            (get_byte(uuid_send(i.id), 8) & 63) * 256 + get_byte(uuid_send(i.id), 9) - 1,
            i.id, true, true, 'PENDING'::transaction_status, moment
        FROM unnest(inserted_ids) AS i (id);
    ELSE
        RETURN QUERY
        SELECT
            r.position::integer - 1, t.id,
            t.id = ANY (inserted_ids)
            AND (get_byte(uuid_send(t.id), 8) & 63) * 256 + get_byte(uuid_send(t.id), 9)
                = r.position,
            t.fingerprint = r.fingerprint, t.status, t.created_at
        FROM unnest(submitters, keys, fingerprints) WITH ORDINALITY
            AS r (submitter, key, fingerprint, position)
        INNER JOIN transactions AS t
            ON t.submitter = r.submitter AND t.idempotency_key = r.key;
    END IF;
END
$$;

-- The last entry of a wallet at a moment, by bisection of its sequence: entries of one wallet are
-- in time order, so no index on time is needed. 0 where there is none.
CREATE FUNCTION last_sequence_at(wallet uuid, moment timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;
    high bigint;
    middle bigint;
BEGIN
    SELECT coalesce(max(e.sequence), 0) INTO high FROM entries AS e WHERE e.wallet_id = wallet;
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (
            SELECT e.created_at <= moment FROM entries AS e
            WHERE e.wallet_id = wallet AND e.sequence = middle
        ) THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$$;
