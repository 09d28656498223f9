#!/bin/sh
# Run once, by the image, on an empty data directory. The service owns its database but is no
# superuser, so that grants and the append-only triggers bind it.
set -eu
psql --set=ON_ERROR_STOP=1 --username=postgres <<'SQL'
\getenv password DATABASE_PASSWORD
CREATE ROLE ackledger LOGIN PASSWORD :'password';
CREATE DATABASE ackledger OWNER ackledger;
REVOKE CONNECT ON DATABASE ackledger FROM PUBLIC;
GRANT pg_monitor TO ackledger;
SQL
