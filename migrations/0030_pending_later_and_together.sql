-- migrate:up

-- Since when a transaction that is PENDING has been so: what was SCHEDULED only from its time on.
CREATE FUNCTION pending_since(
    transaction uuid, created_at timestamptz, has_terms boolean
) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN has_terms THEN greatest(
            created_at,
            (SELECT t.execute_at FROM transaction_terms AS t WHERE t.transaction_id = transaction)
        )
        ELSE created_at
    END
$$;

-- Those of these transactions that are PENDING, as they are announced: with each member of an atomic
-- batch all of its others.
CREATE FUNCTION pending_to_announce(ids uuid[]) RETURNS TABLE (
    id uuid,
    source_wallet_id uuid,
    destination_wallet_id uuid,
    currency text,
    batch_id uuid
)
LANGUAGE sql STABLE AS $$
    WITH named AS MATERIALIZED (
        SELECT
            t.id, t.source_wallet_id, t.destination_wallet_id, t.currency,
            CASE
                WHEN t.has_terms THEN (
                    SELECT terms.batch_id FROM transaction_terms AS terms
                    WHERE terms.transaction_id = t.id
                )
            END AS batch_id
        FROM unnest(ids) AS wanted (id)
        INNER JOIN transactions AS t ON t.id = wanted.id
        WHERE t.status = 'PENDING'
    )

    SELECT n.id, n.source_wallet_id, n.destination_wallet_id, n.currency, n.batch_id
    FROM named AS n
    WHERE n.batch_id IS NULL
    UNION ALL
    SELECT t.id, t.source_wallet_id, t.destination_wallet_id, t.currency, b.batch_id
    FROM (SELECT DISTINCT n.batch_id FROM named AS n WHERE n.batch_id IS NOT NULL) AS b
    INNER JOIN transaction_terms AS member ON member.batch_id = b.batch_id
    INNER JOIN transactions AS t ON t.id = member.transaction_id
    WHERE t.status = 'PENDING'
$$;
