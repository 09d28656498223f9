-- migrate:up

-- What a rule has noted of transactions that were posted.
CREATE TABLE flags (
    transaction_id uuid NOT NULL,
    rule_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (transaction_id, rule_id)
);

CREATE INDEX flags_by_rule ON flags (rule_id, transaction_id);

-- Transactions that a rule holds back for an operator: PENDING until all reviews of theirs (of an
-- atomic batch: of all members) are decided.
CREATE TABLE reviews (
    id uuid PRIMARY KEY,
    transaction_id uuid NOT NULL,
    rule_id uuid NOT NULL,
    state review_state NOT NULL DEFAULT 'OPEN',
    created_at timestamptz NOT NULL,
    decided_at timestamptz,
    decided_by text,
    reason text,
    UNIQUE (transaction_id, rule_id),
    CHECK ((state = 'OPEN') = (decided_at IS NULL)),
    CHECK ((decided_at IS NULL) = (decided_by IS NULL))
);

CREATE INDEX reviews_by_state ON reviews (state, id);

-- Every transaction that was ever held back, and whether it is now, since when: the members of an
-- atomic batch each. Such a one has terms, too, if only empty ones: so it is posted under locks
-- alone, and whoever read it before it was held back writes nothing.
CREATE TABLE reviewed_transactions (
    transaction_id uuid PRIMARY KEY,
    is_held boolean NOT NULL,
    since timestamptz NOT NULL
);

-- Since when a transaction that is PENDING has been so, as before; null for one that is held back
-- for review: it waits for an operator, and is neither stale, nor too old, nor announced again. One
-- that was approved counts from then on.
CREATE OR REPLACE FUNCTION pending_since(
    transaction uuid, created_at timestamptz, has_terms boolean
) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN has_terms THEN (
            SELECT CASE
                WHEN NOT coalesce(r.is_held, false) THEN greatest(
                    created_at,
                    r.since,
                    (
                        SELECT t.execute_at FROM transaction_terms AS t
                        WHERE t.transaction_id = transaction
                    )
                )
            END
            FROM (SELECT transaction) AS one (id)
            LEFT JOIN reviewed_transactions AS r ON r.transaction_id = one.id
        )
        ELSE created_at
    END
$$;
