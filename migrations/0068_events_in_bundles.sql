-- migrate:up
-- An event's place in the log is its message and its number there: a message holds many events.
ALTER TABLE webhook_progress ADD COLUMN log_number integer;
