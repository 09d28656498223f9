-- name: lock_migrations
-- One process migrates at a time; the others wait here.
SELECT pg_advisory_lock($1);

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
-- Migrations never stand in front of live traffic.
SET LOCAL lock_timeout = '1s';

-- name: insert_applied
-- Notes a migration in the same commit as its effect.
INSERT INTO schema_migrations (version, checksum) VALUES ($1, $2);
