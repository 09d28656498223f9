-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_by_action ON audit_log (action, id);
