-- migrate:up transaction:false

-- Deliveries of one transaction's events. What is sent has the transaction's id as the first member
-- that is called so, so that those from before this index are found by it, too.
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_deliveries_by_transaction
ON webhook_deliveries (substring(body FROM '"id":"([0-9a-f-]{36})"'), webhook_id, id);
