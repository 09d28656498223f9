-- migrate:up

ALTER TABLE wallets DROP CONSTRAINT wallets_available_not_negative;
