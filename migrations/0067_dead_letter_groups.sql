-- migrate:up

-- Dead letters that say the same about different values are one group. What is quoted, an id or a
-- number differs from message to message: each counts as one sign.
CREATE FUNCTION dead_letter_fingerprint(reason text, detail text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN left(
    encode(
        sha256(
            convert_to(
                reason || ':' || regexp_replace(
                    detail,
                    '''[^'']*''|"[^"]*"|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9]+',
                    '*',
                    'g'
                ),
                'UTF8'
            )
        ),
        'hex'
    ),
    16
);

-- What became of one, in one word.
CREATE FUNCTION dead_letter_state(replayed_at timestamptz, discarded_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN replayed_at IS NOT NULL THEN 'replayed'
    WHEN discarded_at IS NOT NULL THEN 'discarded'
    ELSE 'open'
END;

-- Written by whoever stores one, older processes among them. It stays null of what was there before:
-- a reader takes the function's word for those.
ALTER TABLE dead_letters ADD COLUMN fingerprint text;

CREATE FUNCTION note_dead_letter_fingerprint() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.fingerprint := dead_letter_fingerprint(NEW.reason, NEW.detail);
    RETURN NEW;
END;
$$;

CREATE TRIGGER dead_letters_fingerprint
BEFORE INSERT ON dead_letters
FOR EACH ROW EXECUTE FUNCTION note_dead_letter_fingerprint();
