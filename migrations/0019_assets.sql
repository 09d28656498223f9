-- migrate:up

-- Currencies beside those of ISO 4217, such as loyalty points. A row is never changed: the amounts of
-- every book in it are minor units by its exponent. Processes read the table each second, and take
-- requests that name an asset from `usable_from` on, when all of them have read it.
CREATE TABLE assets (
    code text PRIMARY KEY CHECK (code ~ '^[A-Z0-9]{3,12}$'),
    exponent integer NOT NULL CHECK (exponent BETWEEN 0 AND 12),
    registered_at timestamptz NOT NULL,
    registered_by text NOT NULL,
    usable_from timestamptz NOT NULL CHECK (usable_from >= registered_at)
);

CREATE TRIGGER assets_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON assets
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE ON assets FROM PUBLIC, CURRENT_USER;
