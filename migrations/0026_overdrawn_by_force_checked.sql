-- migrate:up transaction:false

-- Reads the table beside the traffic.
ALTER TABLE wallets VALIDATE CONSTRAINT wallets_not_overdrawn;
