-- migrate:up transaction:false

-- A transaction may be reversed in several parts: `transactions_by_reverses`, which is unique, goes.
DROP INDEX CONCURRENTLY IF EXISTS transactions_by_reverses;
