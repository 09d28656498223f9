-- name: read_possession
-- Whether each wallet is its holder's: made by it or, of a person, owned; and whether it is granted.
SELECT
    asked.position,
    coalesce((
        SELECT w.created_by = asked.name OR w.owner_id = asked.owner_id
        FROM wallets AS w
        WHERE w.id = asked.wallet_id
    ), false) AS is_own,
    coalesce((
        SELECT true
        FROM wallet_grants AS g
        WHERE g.client = asked.name AND g.wallet_id = asked.wallet_id
    ), false) AS is_granted
FROM
    unnest($1::text[], $2::text[], $3::uuid[]) WITH ORDINALITY
        AS asked (name, owner_id, wallet_id, position)
ORDER BY asked.position;

-- name: read_clients
-- What is known of upstream systems; one without a row is not restricted.
SELECT
    c.name, c.reach, c.allowed_types, c.allowed_currencies, c.allowed_owners,
    c.disabled_at IS NOT NULL AS is_disabled
FROM unnest($1::text[]) AS wanted (name)
INNER JOIN clients AS c ON c.name = wanted.name;

-- name: read_owners
-- Whose wallets these are.
SELECT w.id, w.owner_id
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id;

-- name: read_holders
-- Who sees these wallets: who made and who owns each, and to whom it is granted.
SELECT
    w.id, w.owner_id,
    array_remove(
        ARRAY(SELECT g.client FROM wallet_grants AS g WHERE g.wallet_id = w.id) || w.created_by,
        NULL
    ) AS names
FROM unnest($1::uuid[]) AS wanted (id)
INNER JOIN wallets AS w ON w.id = wanted.id;

-- name: read_people_rights
-- What people may do now.
SELECT r.id, r.role, r.is_active FROM people_rights AS r WHERE r.id = ANY ($1::uuid[]);

-- name: read_key_rights
-- What the keys of clients allow now, those that are over too.
SELECT r.client, r.scopes, r.reach::text, r.is_in_force
FROM key_rights AS r
WHERE r.client = ANY ($1::text[]);
