-- migrate:up

-- Writes counters over exactly the rows that a batch was decided on, which it need not have locked.
-- Raises AL001 where any of them is another, or gone. In the order of the keys, which come sorted,
-- so that two batches never wait for each other: a hash would take the rows as they lie.
CREATE FUNCTION write_counters(
    counter_keys text[],
    buckets_before bigint[],
    rings_before text[],
    buckets bigint[],
    rings text[]
) RETURNS void
LANGUAGE plpgsql
SET cpu_tuple_cost = 1000
SET enable_memoize = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE rule_counters AS c SET bucket = n.bucket, amounts = n.ring
    FROM
        unnest(counter_keys, buckets_before, rings_before, buckets, rings)
        AS n (key, bucket_before, ring_before, bucket, ring)
    WHERE c.key = n.key AND c.bucket = n.bucket_before AND c.amounts = n.ring_before;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM expect_rows('counters', cardinality(counter_keys), changed);
END
$$;
