-- migrate:up

ALTER TABLE seals VALIDATE CONSTRAINT seals_cover_something;
