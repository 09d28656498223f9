-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_by_actor ON audit_log (actor, id);
