-- name: create_role
-- Make the service's role, or give it its password: it owns its database and may make others for
-- tests, but is no superuser, so that grants and triggers bind it here as they do in production.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ackledger') THEN
    CREATE ROLE ackledger LOGIN CREATEDB CREATEROLE;
    GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO ackledger;
  END IF;
  EXECUTE format('ALTER ROLE ackledger PASSWORD %L', current_setting('ackledger.password'));
END
$$;

-- name: database_exists
-- Tell whether the ledger's database is there; PostgreSQL has no CREATE DATABASE IF NOT EXISTS.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'ackledger');

-- name: create_database
-- Make the ledger's database, owned by the service's role.
CREATE DATABASE ackledger OWNER ackledger;
