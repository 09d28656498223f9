-- migrate:up

-- What people and clients of API keys may do at this moment, for what they scheduled before. A view
-- has the rights of its own owner, so the processor reads no keys and no accounts. What roles and
-- scopes allow is said elsewhere.
CREATE VIEW people_rights AS
SELECT u.id, u.role::text AS role, u.status = 'ACTIVE' AS is_active FROM users AS u;

CREATE VIEW key_rights AS
SELECT
    k.client, k.scopes, k.reach,
    k.revoked_at IS NULL
    AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp()) AS is_in_force
FROM api_keys AS k;
