-- name: insert_api_key
-- A new key, known by its hash alone, with the trail of who made it.
WITH new AS (
    INSERT INTO api_keys (id, client, scopes, key_hash, key_prefix)
    VALUES (uuid_v7(clock_us()), $1, $2, $3, $4)
    RETURNING id, client, scopes, key_prefix, created_at, revoked_at
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $5, 'api_key.created', 'api_key:' || id::text,
        json_build_object('client', client, 'scopes', scopes, 'prefix', key_prefix)
    FROM new
)
SELECT * FROM new;

-- name: list_api_keys
-- All keys, oldest first; revoked ones only when asked for.
SELECT id, client, scopes, key_prefix, created_at, revoked_at
FROM api_keys
WHERE ($1 OR revoked_at IS NULL) AND ($2::text IS NULL OR client = $2)
ORDER BY id;

-- name: find_api_keys
-- The keys that an id or a prefix names: none, one, or (by prefix) in theory several.
SELECT id, client, scopes, key_prefix, created_at, revoked_at
FROM api_keys
WHERE id::text = $1 OR key_prefix = $1;

-- name: revoke_api_key
-- Ends a key once, with the trail of who did; no row when it had ended before.
WITH ended AS (
    UPDATE api_keys SET revoked_at = clock_timestamp()
    WHERE id = $1 AND revoked_at IS NULL
    RETURNING id, client, scopes, key_prefix, created_at, revoked_at
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $2, 'api_key.revoked', 'api_key:' || id::text,
        json_build_object('client', client, 'prefix', key_prefix)
    FROM ended
)
SELECT * FROM ended;

-- name: is_valid_api_key
-- Whether a key of this hash is in force for the client with all these scopes.
SELECT EXISTS (
    SELECT FROM api_keys
    WHERE key_hash = $1 AND client = $2 AND scopes @> $3 AND revoked_at IS NULL
);

-- name: has_pending
-- Whether any transaction is still to be posted. Those that the sweep has passed are on the
-- reconciler's retry queue.
SELECT
    EXISTS (SELECT FROM stale_transactions)
    OR EXISTS (
        SELECT FROM transactions
        WHERE id >= (SELECT swept_until FROM sweep_progress) AND status = 'PENDING'
    );

-- name: insert_asset
-- A new asset with the trail of who registered it, usable $4 seconds later; no row when the code is
-- registered, or $5 are.
WITH new AS (
    INSERT INTO assets (code, exponent, registered_by, registered_at, usable_from)
    SELECT $1, $2, $3, at, at + make_interval(secs => $4)
    FROM clock_timestamp() AS at
    WHERE (SELECT count(*) FROM assets) < $5
    ON CONFLICT (code) DO NOTHING
    RETURNING code, exponent, registered_at, registered_by, usable_from
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), registered_by, 'asset.registered', 'asset:' || code,
        json_build_object('exponent', exponent, 'usable_from', usable_from)
    FROM new
)
SELECT * FROM new;

-- name: list_assets
-- Every registered asset.
SELECT code, exponent, registered_at, registered_by, usable_from FROM assets ORDER BY code;

-- name: insert_rule
-- A new rule, not enabled, with the trail of who added it; no row where the name is in use.
WITH new AS (
    INSERT INTO rules (
        id, name, kind, action, parameters, types, wallets, owners, clients, currencies
    )
    VALUES (
        uuid_v7(clock_us()), $1, $2::text::rule_kind, $3::text::rule_action, $4::text::jsonb, $5,
        $6, $7, $8, $9
    )
    ON CONFLICT (name) DO NOTHING
    RETURNING *
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $10, 'rule.added', 'rule:' || name,
        json_build_object(
            'kind', kind, 'action', action, 'parameters', parameters, 'types', types,
            'wallets', wallets, 'owners', owners, 'clients', clients, 'currencies', currencies
        )
    FROM new
)
SELECT * FROM new;

-- name: list_rules
-- All rules.
SELECT * FROM rules ORDER BY name;

-- name: find_rule
-- One rule.
SELECT * FROM rules WHERE name = $1;

-- name: switch_rule
-- Enables or disables a rule, with the trail of who did; no row where $4 are enabled.
WITH switched AS (
    UPDATE rules SET is_enabled = $2, version = version + 1, updated_at = clock_timestamp()
    WHERE
        name = $1
        AND (NOT $2::boolean OR (SELECT count(*) FROM rules AS other WHERE other.is_enabled) < $4)
    RETURNING *
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $3,
        CASE WHEN is_enabled THEN 'rule.enabled' ELSE 'rule.disabled' END, 'rule:' || name,
        json_build_object('version', version)
    FROM switched
)
SELECT * FROM switched;
