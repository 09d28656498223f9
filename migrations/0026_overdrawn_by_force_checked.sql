-- migrate:up transaction:false
-- Reads every wallet, for as long as that takes, while they are read and written as usual.
ALTER TABLE wallets VALIDATE CONSTRAINT wallets_available_not_negative;
