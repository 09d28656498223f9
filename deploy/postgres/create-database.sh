#!/bin/sh
# Run once, by the image, on an empty data directory. The service owns its database but is no
# superuser, so that grants and the append-only triggers bind it.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$DATABASE_PASSWORD" --username=postgres <<'SQL'
CREATE ROLE ackledger LOGIN PASSWORD :'password';
CREATE DATABASE ackledger OWNER ackledger;
REVOKE CONNECT ON DATABASE ackledger FROM PUBLIC;
GRANT pg_monitor TO ackledger;
SQL
