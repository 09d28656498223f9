-- migrate:up

-- A customer's wallet may stand below its limit by what a forced reversal took. Nothing is read here,
-- as in 0017: the next migration looks at the old rows.
ALTER TABLE wallets
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT wallets_available_not_negative,
ADD CONSTRAINT wallets_available_not_negative CHECK (
    -- In this form nothing leaves 64 bits, however large the limit is.
    forced_overdraft >= 0
    AND (kind <> 'customer' OR balance - held + forced_overdraft >= -overdraft_limit)
) NOT VALID;
