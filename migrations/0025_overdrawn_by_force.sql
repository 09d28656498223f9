-- migrate:up

-- A wallet may stand below its limit by what a forced reversal took. The old constraint stays until
-- the new one is checked.
ALTER TABLE wallets ADD CONSTRAINT wallets_not_overdrawn CHECK (
    -- In this form nothing leaves 64 bits, however large the limit is.
    forced_overdraft >= 0
    AND (kind <> 'customer' OR balance - held + forced_overdraft >= -overdraft_limit)
) NOT VALID;
