#!/bin/sh
# Run once, by the image, on an empty data directory; safe to run again, for a database from before
# there were roles: docker compose exec postgres sh /docker-entrypoint-initdb.d/2-create-logins.sh
# Each process gets a login in the role of its own (docs/operations.md); `ackledger migrate` says
# what each role may do.
set -eu
for process in ingress processor reconciler notifier operator reader; do
  variable=$(echo "${process}_DATABASE_PASSWORD" | tr '[:lower:]' '[:upper:]')
  printenv "$variable" > /dev/null
  psql --set=ON_ERROR_STOP=1 --set=role="ackledger_$process" --set=variable="$variable" \
    --username=postgres <<'SQL'
\set login :role _login
\getenv password :variable
SELECT format('CREATE ROLE %I NOLOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('CREATE ROLE %I LOGIN IN ROLE %I', :'login', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'login') \gexec
ALTER ROLE :"login" PASSWORD :'password';
GRANT CONNECT ON DATABASE ackledger TO :"role";
SQL
done
psql --set=ON_ERROR_STOP=1 --username=postgres \
  --command='GRANT pg_read_all_stats TO ackledger_reconciler'
