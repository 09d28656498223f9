-- migrate:up

-- A row of the outbox lives for milliseconds and is read seldom: what is too long for its page stays
-- as it is, instead of being compressed while the batch holds its locks. That was a twelfth of the
-- time that the server takes to write a batch of a thousand.
ALTER TABLE outbox
ALTER COLUMN transaction_ids SET STORAGE EXTERNAL,
ALTER COLUMN wallets SET STORAGE EXTERNAL;
