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
