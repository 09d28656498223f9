-- migrate:up

-- The legs of what is posted, wherever they stand: on the transaction's row, or in
-- `transaction_legs`. Each has become one entry. Holds and releases have none.
CREATE VIEW posted_legs AS
SELECT
    t.id AS transaction_id, leg.side, leg.wallet_id, leg.sequence, leg.amount, t.currency
FROM transactions AS t
CROSS JOIN LATERAL (
    VALUES ('source', t.source_wallet_id, t.source_sequence, -t.amount),
    ('destination', t.destination_wallet_id, t.destination_sequence, t.amount)
) AS leg (side, wallet_id, sequence, amount)
WHERE
    t.status IN ('COMPLETED', 'REVERSED')
    AND (
        t.type IN ('deposit', 'withdrawal', 'transfer', 'capture')
        -- Not the reversal of a journal, which has no one amount.
        OR (t.type = 'reversal' AND t.amount IS NOT NULL)
    )
UNION ALL
SELECT
    l.transaction_id, l.position::text || '.' AS side, l.wallet_id, l.sequence, l.amount,
    l.currency
FROM transaction_legs AS l
INNER JOIN transactions AS t ON t.id = l.transaction_id
WHERE t.status IN ('COMPLETED', 'REVERSED');
