-- migrate:up

-- The house's own wallets: fees, suspense, exchange.
ALTER TYPE wallet_kind ADD VALUE 'internal' AFTER 'external';

-- Only a customer's wallet is held to its limit. For the kinds that there were, this says what the
-- former constraint said, so no row is read here: each new version of a row is checked from now on,
-- and the next migration looks at the old ones without a lock that anybody waits for. It does not
-- name the new kind, which cannot be used before it is committed.
ALTER TABLE wallets
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT wallets_available_not_negative,
ADD CONSTRAINT wallets_available_not_negative CHECK (
    -- In this form nothing leaves 64 bits, however large the limit is.
    kind <> 'customer' OR balance - held >= -overdraft_limit
) NOT VALID;
