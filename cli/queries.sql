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

-- name: insert_user
-- An account that can be used at once, with the trail of who made it; none where the address is taken.
WITH new AS (
    INSERT INTO users (id, email, name, role, password_hash, status, confirmed_at)
    VALUES (
        uuid_v7(clock_us()), $1, $2, $3::text::user_role, $4, 'ACTIVE', clock_timestamp()
    )
    ON CONFLICT (email) WHERE deleted_at IS NULL DO NOTHING
    RETURNING
        id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at,
        deleted_at
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $5, 'user.created', 'user:' || id::text,
        json_build_object('role', role)
    FROM new
)
SELECT * FROM new;

-- name: list_users
-- Accounts, newest first, up to a bound; deleted ones only where they are asked for.
SELECT
    id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at, deleted_at
FROM users
WHERE ($1::text IS NULL OR role = $1::text::user_role)
    AND CASE WHEN $2::text IS NULL THEN status <> 'DELETED' ELSE status = $2::text::user_status END
ORDER BY id DESC
LIMIT $3;

-- name: lock_user
-- The account that an id or an address names, to change it.
SELECT id, email, password_hash, role::text, status::text, confirmed_at
FROM users
WHERE (id::text = $1 OR email = $1) AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: change_user
-- A locked account's role or status, with the trail of who changed it. Disabling ends every session.
WITH changed AS (
    UPDATE users
    SET
        role = coalesce($2::text::user_role, role),
        status = coalesce($3::text::user_status, status)
    WHERE id = $1
    RETURNING
        id, email, name, role::text, status::text, is_mail_wanted, created_at, confirmed_at,
        deleted_at
), ended AS (
    UPDATE sessions AS s SET revoked_at = clock_timestamp()
    FROM changed AS c
    WHERE s.user_id = c.id AND s.revoked_at IS NULL AND c.status = 'DISABLED'
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $4, 'user.changed', 'user:' || id::text,
        json_build_object('role', role, 'status', status)
    FROM changed
)
SELECT * FROM changed;

-- name: renew_user
-- A locked account made usable again: its role, a new password, and no session of before.
WITH renewed AS (
    UPDATE users
    SET
        role = $2::text::user_role, password_hash = $3, status = 'ACTIVE',
        confirmed_at = coalesce(confirmed_at, clock_timestamp())
    WHERE id = $1
    RETURNING id, role
), ended AS (
    UPDATE sessions AS s SET revoked_at = clock_timestamp()
    FROM renewed AS r
    WHERE s.user_id = r.id AND s.revoked_at IS NULL
)
INSERT INTO audit_log (id, actor, action, subject, detail)
SELECT
    uuid_v7(clock_us()), $4, 'user.renewed', 'user:' || id::text,
    json_build_object('role', role::text)
FROM renewed;

-- name: insert_client
-- A new upstream client with the trail of who made it, disabled until the broker knows its user; no
-- row when there is one of that name.
WITH new AS (
    INSERT INTO clients (
        name, reach, allowed_types, allowed_currencies, allowed_owners,
        per_transaction_max, daily_max, created_at, disabled_at
    )
    SELECT $1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, at, at
    FROM clock_timestamp() AS at
    ON CONFLICT (name) DO NOTHING
    RETURNING *
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject, detail)
    SELECT
        uuid_v7(clock_us()), $8, 'client.created', 'client:' || name,
        json_strip_nulls(json_build_object(
            'reach', reach, 'types', allowed_types, 'currencies', allowed_currencies,
            'owners', allowed_owners, 'per_transaction_max', per_transaction_max,
            'daily_max', daily_max
        ))
    FROM new
)
SELECT
    name, reach, allowed_types, allowed_currencies, allowed_owners,
    per_transaction_max::text, daily_max::text, created_at, disabled_at
FROM new;

-- name: read_client
-- One client, enabled or not.
SELECT
    name, reach, allowed_types, allowed_currencies, allowed_owners,
    per_transaction_max::text, daily_max::text, created_at, disabled_at
FROM clients
WHERE name = $1;

-- name: list_clients
-- All clients by their names; disabled ones only when asked for.
SELECT
    name, reach, allowed_types, allowed_currencies, allowed_owners,
    per_transaction_max::text, daily_max::text, created_at, disabled_at
FROM clients
WHERE $1 OR disabled_at IS NULL
ORDER BY name;

-- name: switch_client
-- Enables ($2 true) or disables a client, with the trail of who did ($3) and how it is called ($4); the
-- moment at which it was disabled first stays.
WITH switched AS (
    UPDATE clients
    SET disabled_at = CASE WHEN $2 THEN NULL ELSE coalesce(disabled_at, clock_timestamp()) END
    WHERE name = $1
    RETURNING *
), trail AS (
    INSERT INTO audit_log (id, actor, action, subject)
    SELECT uuid_v7(clock_us()), $3, $4, 'client:' || name
    FROM switched
)
SELECT
    name, reach, allowed_types, allowed_currencies, allowed_owners,
    per_transaction_max::text, daily_max::text, created_at, disabled_at
FROM switched;

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

-- name: read_server
-- What the server that is backed up is: its clock, its release, its system, and its timeline once
-- it takes writes.
SELECT
    clock_timestamp() AS moment,
    split_part(current_setting('server_version'), ' ', 1) AS version,
    c.system_identifier,
    s.setting::bigint AS segment_size,
    CASE
        WHEN pg_is_in_recovery() THEN NULL
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
    END AS timeline
FROM pg_control_system() AS c
INNER JOIN pg_settings AS s ON s.name = 'wal_segment_size';

-- name: make_slot
-- Have the server keep WAL for the slot $1 from now on, if there is no such slot.
SELECT pg_create_physical_replication_slot($1, immediately_reserve => true)
WHERE NOT EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.slot_name = $1);

-- name: drop_slot
-- Remove the slot $1, unless somebody is connected to it.
SELECT pg_drop_replication_slot(s.slot_name)
FROM pg_replication_slots AS s
WHERE s.slot_name = $1 AND NOT s.active;

-- name: read_slot
-- From where the server keeps WAL for the slot $1, in octets.
SELECT (s.restart_lsn - '0/0'::pg_lsn)::bigint AS restarts_at
FROM pg_replication_slots AS s
WHERE s.slot_name = $1;

-- name: find_missing_transactions
-- Which transactions, by ids, submitters and keys, are not there, and were not sent again either.
SELECT wanted.id
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS wanted (id, submitter, idempotency_key)
WHERE
    NOT EXISTS (SELECT FROM transactions AS t WHERE t.id = wanted.id)
    AND NOT EXISTS (
        SELECT FROM transactions AS t
        WHERE t.submitter = wanted.submitter AND t.idempotency_key = wanted.idempotency_key
    );

-- name: watch_flow
-- How much was recorded and has ended so far, by PostgreSQL's own statistics, which come up to a
-- second late, and by what they cannot know: drafts end as they are inserted. And what waits for an
-- operator or a receiver, counted up to $1.
SELECT
    coalesce(sum(s.n_tup_ins) FILTER (WHERE s.relname = 'transactions'), 0)::bigint AS recorded,
    coalesce(sum(s.n_tup_upd) FILTER (WHERE s.relname = 'transactions'), 0)::bigint
    + (SELECT p.drafts FROM posting_turn AS p) AS ended,
    coalesce(
        sum(s.n_tup_ins) FILTER (WHERE s.relname = 'exceptional_transactions'), 0
    )::bigint AS exceptional,
    (
        SELECT count(*) FROM (
            SELECT FROM dead_letters AS d
            WHERE d.replayed_at IS NULL AND d.discarded_at IS NULL
            LIMIT $1
        ) AS open
    ) AS open_dead_letters,
    (
        SELECT count(*) FROM (
            SELECT FROM webhook_deliveries AS w WHERE w.status = 'PENDING' LIMIT $1
        ) AS waiting
    ) AS waiting_webhooks
FROM pg_stat_user_tables AS s
WHERE s.relname IN ('transactions', 'exceptional_transactions');
