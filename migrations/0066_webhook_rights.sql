-- migrate:up

-- The rights that a webhook's owner has at this moment: a row for the role of an account that is
-- active, or for each key of a client that is in force. An owner without a row has none. What roles
-- and scopes allow is said elsewhere. `made_with` bounds it: a webhook never gets more than whoever
-- made it could see. A view has the rights of its own owner, so the notifier reads no keys.
CREATE VIEW webhook_rights AS
SELECT
    w.id AS webhook_id, w.submitter, w.owner_id, w.reach AS made_with, u.role::text AS role,
    NULL::text[] AS scopes, NULL::reach AS reach
FROM webhooks AS w
INNER JOIN users AS u ON u.id = CASE
    WHEN w.owner_id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN w.owner_id::uuid
END
WHERE u.status = 'ACTIVE'
UNION ALL
SELECT
    w.id AS webhook_id, w.submitter, w.owner_id, w.reach AS made_with, NULL::text AS role,
    k.scopes, k.reach
FROM webhooks AS w
INNER JOIN api_keys AS k ON k.client = w.submitter
WHERE w.owner_id IS NULL
    AND k.revoked_at IS NULL
    AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());
