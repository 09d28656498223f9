-- migrate:up

-- A transaction with its two entries, as clients read it. Each entry is looked up by its key: joined,
-- they were read whole for each transaction where they were few when the statement was planned.
CREATE OR REPLACE VIEW transaction_views AS
SELECT
    t.*,
    (
        SELECT e.balance_after FROM entries AS e
        WHERE e.wallet_id = t.source_wallet_id AND e.sequence = t.source_sequence
    ) AS source_balance_after,
    (
        SELECT e.balance_after FROM entries AS e
        WHERE e.wallet_id = t.destination_wallet_id AND e.sequence = t.destination_sequence
    ) AS destination_balance_after,
    (SELECT reversal.id FROM transactions AS reversal WHERE reversal.reverses = t.id) AS reversed_by
FROM transactions AS t;
