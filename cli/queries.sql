-- name: insert_api_key
-- A new key, known by its hash alone, with the trail of who made it.
WITH new AS (
    INSERT INTO api_keys (id, client, scopes, key_hash, key_prefix, reach, expires_at)
    VALUES (
        uuid_v7(clock_us()), $1, $2, $3, $4, $6::text::reach,
        clock_timestamp() + make_interval(secs => $7)
    )
    RETURNING
        id, client, scopes, key_prefix, created_at, revoked_at, reach, expires_at, last_used_at
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $5, 'api_key.created', 'api_key:' || id::text,
        json_build_object(
            'client', client, 'scopes', scopes, 'prefix', key_prefix, 'reach', reach,
            'expires_at', expires_at
        )
    FROM new
)
SELECT * FROM new;

-- name: list_api_keys
-- All keys, oldest first; revoked ones only when asked for.
SELECT id, client, scopes, key_prefix, created_at, revoked_at, reach, expires_at, last_used_at
FROM api_keys
WHERE ($1 OR revoked_at IS NULL) AND ($2::text IS NULL OR client = $2)
ORDER BY id;

-- name: find_api_keys
-- The keys that an id or a prefix names: none, one, or (by prefix) in theory several.
SELECT id, client, scopes, key_prefix, created_at, revoked_at, reach, expires_at, last_used_at
FROM api_keys
WHERE id::text = $1 OR key_prefix = $1;

-- name: revoke_api_key
-- Ends a key once, with the trail of who did; no row when it had ended before.
WITH ended AS (
    UPDATE api_keys SET revoked_at = clock_timestamp()
    WHERE id = $1 AND revoked_at IS NULL
    RETURNING
        id, client, scopes, key_prefix, created_at, revoked_at, reach, expires_at, last_used_at
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $2, 'api_key.revoked', 'api_key:' || id::text,
        json_build_object('client', client, 'prefix', key_prefix)
    FROM ended
)
SELECT * FROM ended;

-- name: is_valid_api_key
-- Whether a key of this hash is in force for the client with all these scopes, and reaches all.
SELECT EXISTS (
    SELECT FROM api_keys
    WHERE
        key_hash = $1 AND client = $2 AND scopes @> $3 AND reach = 'all' AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > clock_timestamp())
);

-- name: list_keys_that_reach_all
-- Keys in force that see and move everybody's wallets, the first $1.
SELECT client, key_prefix
FROM api_keys
WHERE
    reach = 'all' AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY id
LIMIT $1;

-- name: insert_grant
-- Lets a client use a wallet, with the trail of who let it; no row where it may already.
WITH new AS (
    INSERT INTO wallet_grants (client, wallet_id, granted_by) VALUES ($1, $2, $3)
    ON CONFLICT (client, wallet_id) DO NOTHING
    RETURNING client, wallet_id, granted_by, granted_at
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), granted_by, 'wallet.granted', 'wallet:' || wallet_id::text,
        json_build_object('client', client)
    FROM new
)
SELECT * FROM new;

-- name: delete_grant
-- Takes that back, with the trail of who did; no row where there is no such grant.
WITH ended AS (
    DELETE FROM wallet_grants WHERE client = $1 AND wallet_id = $2
    RETURNING client, wallet_id, granted_by, granted_at
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $3, 'wallet.grant_revoked', 'wallet:' || wallet_id::text,
        json_build_object('client', client)
    FROM ended
)
SELECT * FROM ended;

-- name: read_grant
-- One grant.
SELECT client, wallet_id, granted_by, granted_at
FROM wallet_grants
WHERE client = $1 AND wallet_id = $2;

-- name: list_grants
-- The first $3 grants of a wallet, of a client, or of both.
SELECT client, wallet_id, granted_by, granted_at
FROM wallet_grants
WHERE ($1::uuid IS NULL OR wallet_id = $1) AND ($2::text IS NULL OR client = $2)
ORDER BY client, wallet_id
LIMIT $3;

-- name: read_wallet_kind
-- What kind of wallet has an id.
SELECT kind::text FROM wallets WHERE id = $1;

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
