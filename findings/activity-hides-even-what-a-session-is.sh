#!/usr/bin/env bash
# PostgreSQL 18.6, pg_stat_activity, as seen by a role without `pg_read_all_stats`.
#
# That the query text of another role's session is hidden is well known. So are the columns by which
# one would choose sessions: `backend_type`, `state` and `xact_start` are null. A query that looks for
# old database transactions with `backend_type = 'client backend'` therefore finds none of them, raises
# nothing, and looks like a quiet server. The id of the transaction is not hidden: `backend_xid` is
# there for everybody.
#
# Seen, for a session of another role with an open database transaction that has an id:
# backend_type, state and xact_start null, the query "<insufficient privilege>", backend_xid not null.
source "$(dirname "${BASH_SOURCE[0]}")/ground"
postgres 18.6.0
ask owner 'CREATE ROLE one LOGIN; CREATE ROLE other LOGIN'
ask one "SELECT pg_current_xact_id(), pg_sleep(5)" >/dev/null &
started+=($!)
about="FROM pg_stat_activity WHERE usename = 'one'"
for _ in $(seq 100); do [ "$(ask other "SELECT backend_xid IS NOT NULL $about")" = t ] && break || sleep 0.1; done
seen=$(ask other "SELECT backend_type IS NULL, state IS NULL, xact_start IS NULL, query, backend_xid IS NOT NULL $about")
verdict "PostgreSQL $(ask owner 'SHOW server_version')" "$seen" "t|t|t|<insufficient privilege>|t"
