-- migrate:up

CREATE TYPE rule_kind AS ENUM ('velocity', 'amount', 'first_destination');
CREATE TYPE rule_action AS ENUM ('refuse', 'flag', 'review');
CREATE TYPE review_state AS ENUM ('OPEN', 'APPROVED', 'REFUSED');

-- Rules that screen transactions in posting. `parameters` by kind, amounts in minor units:
--   velocity            {"by": "wallet"|"owner"|"client"|"type", "window_s": n,
--                        "count_max": n, "sum_max": {"EUR": n}}
--   amount              {"EUR": {"least": n, "most": n}}
--   first_destination   {}
-- The arrays say what a rule applies to; null is no restriction. What a rule says never changes, so
-- that what it has counted stays what it counts: for another one add another. `version` counts how
-- often it was switched.
CREATE TABLE rules (
    id uuid PRIMARY KEY,
    number integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    kind rule_kind NOT NULL,
    action rule_action NOT NULL,
    parameters jsonb NOT NULL,
    types text[],
    wallets uuid[],
    owners text[],
    clients text[],
    currencies text[],
    is_enabled boolean NOT NULL DEFAULT false,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The versions of all that is enforced. A batch names the one that it was decided under, and is not
-- written where a later one is in force: five seconds after it was made, when every processor has
-- had the time to read it.
CREATE TABLE rules_versions (
    version bigint PRIMARY KEY,
    enforced_from timestamptz NOT NULL
);

CREATE FUNCTION note_rule_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- One change after the other: whoever has read a version has read all changes before it.
    LOCK TABLE rules_versions IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO rules_versions (version, enforced_from)
    SELECT coalesce(max(v.version), 0) + 1, clock_timestamp() + interval '5 seconds'
    FROM rules_versions AS v;
    RETURN NULL;
END
$$;

CREATE TRIGGER rules_change_is_noted
AFTER INSERT OR UPDATE OR DELETE ON rules
FOR EACH STATEMENT EXECUTE FUNCTION note_rule_change();

CREATE TRIGGER clients_change_is_noted
AFTER INSERT OR DELETE OR UPDATE OF per_transaction_max, daily_max ON clients
FOR EACH STATEMENT EXECUTE FUNCTION note_rule_change();

-- Raises AL001 unless a batch was decided under the rules that are in force.
CREATE FUNCTION expect_rules(decided_under bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM rules_versions AS v
        WHERE v.version > decided_under AND v.enforced_from <= clock_timestamp()
    ) THEN
        RAISE EXCEPTION 'decided under version % of the rules, which is in force no longer',
            decided_under
            USING ERRCODE = 'AL001';
    END IF;
END
$$;
