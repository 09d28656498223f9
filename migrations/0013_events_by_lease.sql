-- migrate:up

-- A relay claims what is owed for some seconds, publishes it without a database transaction, and
-- deletes what it still holds. `origin_id`: the row that an event was owed by first, where an
-- operator released it: its event id is made of that one. No index names these columns, and half of
-- each page stays free: a claim is a HOT update.
ALTER TABLE outbox
ADD COLUMN origin_id uuid,
ADD COLUMN claimed_by uuid,
ADD COLUMN claimed_until timestamptz;
ALTER TABLE outbox SET (fillfactor = 50);

-- Events that a subscriber's queue refused: a line for each routing key, since all events of a
-- routing key go to the same queues. `id` is the place in the line.
CREATE TABLE refused_events (
    id uuid PRIMARY KEY,
    routing_key text NOT NULL,
    origin_id uuid NOT NULL,
    event_type text NOT NULL,
    transaction_ids uuid[] NOT NULL,
    occurred_at timestamptz NOT NULL,
    refused_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    claimed_by uuid,
    claimed_until timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX refused_events_by_line ON refused_events (routing_key, id);

-- Metadata that is deeper than clients may send, as it was before it was replaced.
CREATE TABLE deep_metadata (
    subject text NOT NULL CHECK (subject IN ('transaction', 'wallet')),
    subject_id uuid NOT NULL,
    metadata json NOT NULL,
    replaced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subject, subject_id)
);

-- Whether a JSON text has more than so many objects and arrays inside one another. Strings are left
-- out first; each pass then takes the innermost pairs away.
CREATE FUNCTION json_is_deeper_than(document text, levels integer) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    pairs text;
BEGIN
    IF length(document) - length(translate(document, '{[', '')) <= levels THEN
        RETURN false;
    END IF;
    pairs := regexp_replace(document, '\\.', '', 'g');
    pairs := regexp_replace(pairs, '"[^"]*"', '', 'g');
    pairs := translate(regexp_replace(pairs, '[^][{}]', '', 'g'), '[]', '{}');
    FOR pass IN 1..levels LOOP
        pairs := replace(pairs, '{}', '');
    END LOOP;
    RETURN pairs <> '';
END
$$;

-- Replaces one subject's metadata by its beginning as a text, and keeps what it was.
CREATE FUNCTION replace_deep_metadata(of_subject text, of_id uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    -- Characters: as a JSON string they are within the bytes that clients may send.
    shown_max CONSTANT integer := 1000;
    deep json;
BEGIN
    IF of_subject = 'transaction' THEN
        SELECT metadata INTO deep FROM transactions WHERE id = of_id FOR NO KEY UPDATE;
        UPDATE transactions
        SET metadata = json_build_object('_too_deep', left(deep::text, shown_max))
        WHERE id = of_id;
    ELSE
        SELECT metadata INTO deep FROM wallets WHERE id = of_id FOR NO KEY UPDATE;
        UPDATE wallets
        SET metadata = json_build_object('_too_deep', left(deep::text, shown_max))
        WHERE id = of_id;
    END IF;
    INSERT INTO deep_metadata (subject, subject_id, metadata) VALUES (of_subject, of_id, deep)
    ON CONFLICT (subject, subject_id) DO UPDATE
    SET metadata = excluded.metadata, replaced_at = clock_timestamp();
END
$$;

-- Walks transactions and wallets by their keys, so many rows a step, and replaces what is deeper
-- than clients may send (contracts/requests/validators.py). One row is changed in one commit, so it never stands
-- in a batch's way for long and no two can deadlock. Safe to run again: what was replaced is not deep.
CREATE PROCEDURE replace_all_deep_metadata(levels integer DEFAULT 16, step integer DEFAULT 5000)
LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    deep_ids uuid[];
    deep_id uuid;
    after uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    LOOP
        SELECT
            array_agg(t.id ORDER BY t.id),
            array_agg(t.id) FILTER (WHERE json_is_deeper_than(t.metadata::text, levels))
        INTO ids, deep_ids
        FROM (
            SELECT one.id, one.metadata FROM transactions AS one
            WHERE one.id > after ORDER BY one.id LIMIT step
        ) AS t;
        EXIT WHEN ids IS NULL;
        after := ids[cardinality(ids)];
        FOREACH deep_id IN ARRAY coalesce(deep_ids, '{}') LOOP
            PERFORM replace_deep_metadata('transaction', deep_id);
            COMMIT;
        END LOOP;
        COMMIT;
    END LOOP;

    after := '00000000-0000-0000-0000-000000000000';
    LOOP
        SELECT
            array_agg(w.id ORDER BY w.id),
            array_agg(w.id) FILTER (WHERE json_is_deeper_than(w.metadata::text, levels))
        INTO ids, deep_ids
        FROM (
            SELECT one.id, one.metadata FROM wallets AS one
            WHERE one.id > after ORDER BY one.id LIMIT step
        ) AS w;
        EXIT WHEN ids IS NULL;
        after := ids[cardinality(ids)];
        FOREACH deep_id IN ARRAY coalesce(deep_ids, '{}') LOOP
            PERFORM replace_deep_metadata('wallet', deep_id);
            COMMIT;
        END LOOP;
        COMMIT;
    END LOOP;
END
$$;
