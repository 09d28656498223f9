-- migrate:up

-- A mail that is not tried any more. Its `next_attempt_at` is infinity then, so that whoever looks for
-- mails to send by the index never passes it.
ALTER TABLE mail_outbox ADD COLUMN given_up_at timestamptz;
