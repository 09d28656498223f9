-- name: read_version
-- The latest version of all that is enforced.
SELECT coalesce(max(version), 0) FROM rules_versions;

-- name: read_rules
-- All that is enforced, and its version, in one snapshot; the rules in the order of their making.
SELECT
    (SELECT coalesce(max(v.version), 0) FROM rules_versions AS v) AS version,
    (
        SELECT coalesce(json_agg(r.* ORDER BY r.id), '[]')::text
        FROM (
            SELECT
                id, number, name, kind, action, parameters, types, wallets, owners, clients, currencies
            FROM rules
            WHERE is_enabled
        ) AS r
    ) AS rules,
    (
        SELECT
            coalesce(
                json_agg(
                    json_build_object(
                        'name', c.name,
                        'per_transaction_max', c.per_transaction_max,
                        'daily_max', c.daily_max
                    )
                ),
                '[]'
            )::text
        FROM clients AS c
        WHERE c.per_transaction_max IS NOT NULL OR c.daily_max IS NOT NULL
    ) AS limits;

-- name: list_reviews
-- Reviews in these states behind an id, newest first, with what they hold back.
SELECT
    r.id, r.transaction_id, r.rule_id, rules.name AS rule, r.state::text, r.created_at,
    r.decided_at, r.decided_by, r.reason, t.status::text AS transaction_status, t.submitter,
    t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency, terms.batch_id
FROM (
    SELECT one.*
    FROM unnest($1::text[]) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT v.* FROM reviews AS v
        WHERE v.state = wanted.state::review_state AND ($2::uuid IS NULL OR v.id < $2)
        ORDER BY v.state DESC, v.id DESC
        LIMIT $3
    ) AS one
    ORDER BY one.id DESC
    LIMIT $3
) AS r
INNER JOIN rules ON rules.id = r.rule_id
INNER JOIN transactions AS t ON t.id = r.transaction_id
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = r.transaction_id
ORDER BY r.id DESC;

-- name: find_review
-- What a review holds back.
SELECT transaction_id FROM reviews WHERE id = $1;

-- name: read_review
-- One of them, locked.
SELECT
    r.id, r.transaction_id, r.rule_id, rules.name AS rule, r.state::text, r.created_at,
    r.decided_at, r.decided_by, r.reason, t.status::text AS transaction_status, t.submitter,
    t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency, terms.batch_id
FROM reviews AS r
INNER JOIN rules ON rules.id = r.rule_id
INNER JOIN transactions AS t ON t.id = r.transaction_id
LEFT JOIN transaction_terms AS terms ON terms.transaction_id = r.transaction_id
WHERE r.id = $1
FOR UPDATE OF r;

-- name: lock_held
-- What waits for a review together with one transaction, locked: with all of its atomic batch. A
-- review is decided under this lock alone.
SELECT lock_whole_batch(named => $1, wanted => 'PENDING');

-- name: decide_review
-- Writes an operator's decision.
UPDATE reviews
SET
    state = $2::text::review_state, decided_at = clock_timestamp(), decided_by = $3, reason = $4
WHERE id = $1;

-- name: has_open_review
-- Whether any of these transactions waits for another decision.
SELECT EXISTS (
    SELECT FROM reviews AS r WHERE r.transaction_id = ANY ($1::uuid[]) AND r.state = 'OPEN'
);

-- name: close_reviews
-- What has ended by one refusal needs no other decision.
UPDATE reviews
SET state = 'REFUSED', decided_at = clock_timestamp(), decided_by = $2, reason = $3
WHERE transaction_id = ANY ($1::uuid[]) AND state = 'OPEN';

-- name: fail_held
-- Ends what was held back, and owes the events: the one that was refused ($2) with its own code and
-- text ($3, $4), the others of its atomic batch for what became of it ($5, $6). The integrity check
-- has passed them long ago, and looks at them by its list.
WITH released AS (
    UPDATE reviewed_transactions AS r SET is_held = false, since = clock_timestamp()
    WHERE r.transaction_id = ANY ($1::uuid[])
),

late AS (
    INSERT INTO late_endings (transaction_id)
    SELECT h.id FROM unnest($1::uuid[]) AS h (id)
    ON CONFLICT (transaction_id) DO NOTHING
)

SELECT
    end_transactions(
        moment => clock_timestamp(),
        ids => named.ids,
        from_status => 'PENDING',
        to_status => 'FAILED',
        codes => named.codes,
        details => named.details
    )
FROM (
    SELECT
        array_agg(h.id ORDER BY h.id) AS ids,
        array_agg(CASE WHEN h.id = $2 THEN $3::text ELSE $5::text END ORDER BY h.id) AS codes,
        array_agg(CASE WHEN h.id = $2 THEN $4::text ELSE $6::text END ORDER BY h.id) AS details
    FROM unnest($1::uuid[]) AS h (id)
) AS named;

-- name: release_held
-- Holds transactions back no longer.
UPDATE reviewed_transactions SET is_held = false, since = clock_timestamp()
WHERE transaction_id = ANY ($1::uuid[]);

-- name: walk_posted
-- What was posted between two ids, the oldest first, at most $4: as rules see it.
SELECT
    t.id, t.type::text, t.source_wallet_id, t.destination_wallet_id, t.amount, t.currency,
    t.submitter, t.created_at, t.completed_at,
    CASE
        WHEN t.type = 'journal' THEN (
            SELECT json_agg(
                json_build_array(leg.wallet_id, leg.currency, leg.amount, leg.is_external)
                ORDER BY leg.position
            )::text
            FROM transaction_legs AS leg
            WHERE leg.transaction_id = t.id
        )
    END AS legs
FROM transactions AS t
WHERE
    t.id > $1
    AND t.id < $2
    AND t.status IN ('COMPLETED', 'REVERSED')
    AND t.type = ANY ($3::text[]::transaction_type[])
ORDER BY t.id
LIMIT $4;

-- name: read_owners
-- Who owns wallets.
SELECT id, owner_id FROM wallets WHERE id = ANY ($1::uuid[]);

-- name: make_trial_counters
-- What a rule that is tried has counted: the session's own.
CREATE TEMPORARY TABLE trial_counters (key text PRIMARY KEY, bucket bigint, amounts text);

-- name: make_trial_pairs
-- Which wallet has paid which, for the session alone.
CREATE TEMPORARY TABLE trial_pairs (source uuid, destination uuid, PRIMARY KEY (source, destination));

-- name: make_trial_hits
-- How often wallets were hit, for the session alone.
CREATE TEMPORARY TABLE trial_hits (wallet_id uuid PRIMARY KEY, hits bigint NOT NULL);

-- name: drop_trial
-- Ends a trial.
DROP TABLE IF EXISTS trial_counters, trial_pairs, trial_hits;

-- name: read_trial_counters
-- Some of the counters.
SELECT c.key, c.bucket, c.amounts
FROM unnest($1::text[]) AS wanted (key)
INNER JOIN trial_counters AS c ON c.key = wanted.key;

-- name: read_trial_pairs
-- Some of the pairs.
SELECT p.source, p.destination
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (source, destination)
INNER JOIN trial_pairs AS p
    ON p.source = wanted.source AND p.destination = wanted.destination;

-- name: read_trial_hits
-- The wallets that were hit most.
SELECT wallet_id, hits FROM trial_hits ORDER BY hits DESC, wallet_id LIMIT $1;

-- name: write_trial_counter
-- What a page leaves of a counter.
INSERT INTO trial_counters (key, bucket, amounts) VALUES ($1, $2, $3)
ON CONFLICT (key) DO UPDATE
SET bucket = excluded.bucket, amounts = excluded.amounts;

-- name: write_trial_pair
-- A pair that a page has seen.
INSERT INTO trial_pairs (source, destination) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: write_trial_hit
-- How often a page has hit a wallet.
INSERT INTO trial_hits AS h (wallet_id, hits) VALUES ($1, $2)
ON CONFLICT (wallet_id) DO UPDATE SET hits = h.hits + excluded.hits;
