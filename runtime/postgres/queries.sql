-- name: try_lock_migrations
-- One process migrates at a time; the others ask again.
SELECT pg_try_advisory_lock($1);

-- name: unlock_migrations
-- Lets the next waiting process look.
SELECT pg_advisory_unlock($1);

-- name: create_schema_migrations
-- The history of the schema.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: has_schema_migrations
-- Whether the database was ever migrated.
SELECT to_regclass('schema_migrations') IS NOT NULL;

-- name: read_applied
-- What was applied, and from what text.
SELECT version, checksum FROM schema_migrations;

-- name: bound_migration_locks
-- A migration that waits for a table makes all traffic on it wait behind it: not for long.
SET LOCAL lock_timeout = '500ms';

-- name: read_lock_holders
-- Who has been in the way of a migration for longer than a try waits ($1 seconds): sessions with
-- locks on our tables, the oldest three. The server hides when other roles' sessions began.
SELECT
    a.pid, a.application_name, a.backend_type, a.usename AS role, a.state,
    extract(EPOCH FROM clock_timestamp() - a.xact_start)::double precision AS age_s,
    array_agg(DISTINCT c.relname::text) AS tables
FROM pg_locks AS l
INNER JOIN pg_class AS c ON c.oid = l.relation
INNER JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE
    l.granted
    AND l.locktype = 'relation'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND c.relkind IN ('r', 'p')
    AND c.relnamespace <> 'pg_catalog'::regnamespace
    AND a.pid <> pg_backend_pid()
    AND (
        a.xact_start IS NULL
        OR a.xact_start < clock_timestamp() - make_interval(secs => $1)
    )
GROUP BY a.pid, a.application_name, a.backend_type, a.usename, a.state, a.xact_start
ORDER BY a.xact_start
LIMIT 3;

-- name: read_invalid_index
-- An index that was being built concurrently when its session ended: it slows down every write and
-- serves no read.
SELECT i.indexrelid::regclass::text
FROM pg_index AS i
INNER JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace
LIMIT 1;

-- name: insert_applied
-- Notes a migration in the same commit as its effect.
INSERT INTO schema_migrations (version, checksum) VALUES ($1, $2);

-- name: read_partition_layout
-- For how many partitions the queues are laid out.
SELECT partitions FROM partition_layout;

-- name: write_partition_layout
-- Notes it, once the broker has them.
INSERT INTO partition_layout (partitions) VALUES ($1)
ON CONFLICT (only_row) DO UPDATE SET partitions = excluded.partitions
WHERE partition_layout.partitions <> excluded.partitions;

-- name: read_assets
-- Every registered asset, and whether requests may name it within $1 seconds.
SELECT code, exponent, usable_from <= clock_timestamp() + make_interval(secs => $1) AS is_usable
FROM assets
ORDER BY code;

-- name: insert_audit
-- Who did what to which thing, from where.
INSERT INTO audit_log (id, actor, action, subject, detail, address, request_id)
VALUES (uuid_v7(clock_us()), $1, $2, $3, $4::text::json, $5, $6);

-- name: lock_roles
-- One process grants at a time.
SELECT pg_advisory_xact_lock($1);

-- name: list_missing_roles
-- Which of these roles do not exist.
SELECT wanted.name
FROM unnest($1::text[]) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = wanted.name);

-- name: create_roles
-- Statements that make groups without a login.
SELECT format('CREATE ROLE %I NOLOGIN', wanted.name) FROM unnest($1::text[]) AS wanted (name);

-- name: list_tables
-- Tables and views of the schema with their columns.
SELECT
    c.relname::text AS name,
    array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class AS c
INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
GROUP BY c.oid;

-- name: revoke_all
-- Statements that take everything in the schema from roles: what is granted stands in one table.
SELECT format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema(), wanted.name)
FROM unnest($1::text[]) AS wanted (name);

-- name: grant_on_tables
-- Statements that grant privileges ($2) on tables ($3) or on columns of theirs ($4) to roles ($1).
SELECT format(
    'GRANT %s%s ON %I TO %I', wanted.privilege, coalesce(' (' || wanted.columns || ')', ''),
    wanted.relation, wanted.role
)
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    AS wanted (role, privilege, relation, columns);

-- name: has_role
-- Whether one role ($1) has what another ($2) may do.
SELECT pg_has_role($1::name, $2::name, 'USAGE');

-- name: grant_role
-- The statement that gives a role ($1) to another ($2).
SELECT format('GRANT %I TO %I', $1::text, $2::text);

-- name: try_lead
-- Whoever's session holds this lock leads; it ends with the session.
SELECT pg_try_advisory_lock($1);

-- name: beat
-- Tells the server that this session's process lives, and the process that the server does.
SELECT 1;

-- name: export_snapshot
-- What another database transaction needs in order to see the same moment.
SELECT pg_export_snapshot();

-- name: import_snapshot
-- See that moment; the words in quotes stand for what was exported. The first statement of its
-- database transaction.
SET TRANSACTION SNAPSHOT 'exported snapshot';

-- name: read_to_announce
-- What of these is still to be posted, with the other members of their atomic batches.
SELECT
    p.id, p.source_wallet_id, p.destination_wallet_id, p.currency, p.batch_id,
    t.type = 'reversal' AS is_reversal
FROM pending_to_announce($1) AS p
INNER JOIN transactions AS t ON t.id = p.id;

-- name: insert_stale
-- The sweep may have passed these ids: the retry queue makes sure of their posting.
INSERT INTO stale_transactions (transaction_id, next_attempt_at)
SELECT w.id, clock_timestamp() + make_interval(secs => $2)
FROM unnest($1::uuid[]) AS w (id)
ON CONFLICT (transaction_id) DO NOTHING;
