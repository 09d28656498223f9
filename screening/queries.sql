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
                id, name, kind, action, parameters, types, wallets, owners, clients, currencies
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
