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

-- name: create_group
-- Make one of the processes' roles, as a superuser does where the service's own role may not.
DO $$
DECLARE
  wanted text := current_setting('ackledger.group');
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
  END IF;
  IF wanted = 'ackledger_reconciler' THEN
    GRANT pg_read_all_stats TO ackledger_reconciler;
  END IF;
END
$$;

-- name: create_login
-- Make the login of a process in its role, or give it its password.
DO $$
DECLARE
  login text := current_setting('ackledger.login');
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
    EXECUTE format('CREATE ROLE %I LOGIN IN ROLE %I', login, current_setting('ackledger.group'));
  END IF;
  EXECUTE format('ALTER ROLE %I PASSWORD %L', login, current_setting('ackledger.password'));
END
$$;

-- name: set_name
-- A name or a password for the statements above, which take no parameters.
SELECT set_config($1, $2, false);

-- name: database_exists
-- Tell whether the ledger's database is there; PostgreSQL has no CREATE DATABASE IF NOT EXISTS.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'ackledger');

-- name: create_database
-- Make the ledger's database, owned by the service's role.
CREATE DATABASE ackledger OWNER ackledger;
