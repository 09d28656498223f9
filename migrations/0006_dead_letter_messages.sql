-- migrate:up

-- What a replay reads the stored body by; absent where the message had none.
ALTER TABLE dead_letters ADD COLUMN message_type text;
ALTER TABLE dead_letters ADD COLUMN content_type text;
