-- migrate:up

-- Raises AL001 where a wallet on which a refusal rests is not the row any more that was looked at:
-- nobody is refused because of what a wallet had before.
CREATE FUNCTION expect_wallets(wallet_ids uuid[], row_versions xid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM expect_rows(
        'wallets as they were seen',
        cardinality(wallet_ids),
        (
            SELECT count(*)
            FROM unnest(wallet_ids, row_versions) AS s (id, row_version)
            INNER JOIN wallets AS w ON w.id = s.id
            WHERE w.xmin = s.row_version
        )
    );
END
$$;

-- A scan along the primary key is still a scan: of a table that had two pages when it was analysed it
-- costs less than a batch's lookups, and goes on until the table is analysed again. With a price on
-- each row that is visited, ten rows are enough to look them up. The ids of a batch differ: to
-- remember what each one led to is for nothing.
ALTER FUNCTION write_posting(
    timestamptz, uuid[], bigint[], bigint[], xid[], uuid[], uuid[], uuid[], bigint[], bigint[],
    bigint[], bigint[], bigint[], uuid[], text[], text[]
) SET cpu_tuple_cost = 1000 SET enable_memoize = off;
