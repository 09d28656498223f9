#!/usr/bin/env bash
# PostgreSQL 18.6, functions in LANGUAGE sql.
#
# A STABLE function of one expression is taken into the statement that calls it, so it costs what its
# expression costs. That a subquery in it prevents this is in no error and no plan that one reads without
# VERBOSE, and it holds even where no row ever comes to the branch that has the subquery: every row
# pays for a call, with a snapshot and an executor of its own. Moved into a second function, which the
# first one calls in that branch, the subquery leaves the first one to be taken in.
#
# Seen, over 200,000 rows of which none enters the branch: "called; taken in; at least 5 times as long"
# (430 ms and 9 ms here).
source "$(dirname "${BASH_SOURCE[0]}")/ground"
postgres 18.6.0
ask owner '
CREATE TABLE others (id int PRIMARY KEY, amount int);
CREATE TABLE ones (id int PRIMARY KEY, amount int NOT NULL, is_special boolean);
INSERT INTO ones (id, amount) SELECT n, n FROM generate_series(1, 200000) AS n;
ANALYZE ones;
CREATE FUNCTION whole(id int, amount int, is_special boolean) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN is_special THEN (SELECT o.amount FROM others AS o WHERE o.id = whole.id) ELSE amount END
$$;
CREATE FUNCTION special(id int) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT o.amount FROM others AS o WHERE o.id = special.id
$$;
CREATE FUNCTION parted(id int, amount int, is_special boolean) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN is_special THEN special(id) ELSE amount END
$$;'
query() { echo "SELECT count(*) FROM ones WHERE $1(id, amount, is_special) IS NOT NULL"; }
how() {
  if ask owner "SET max_parallel_workers_per_gather = 0; EXPLAIN (VERBOSE) $(query "$1")" | grep -q "[^_a-z]$1("; then
    echo called
  else
    echo "taken in"
  fi
}
# The best of five, in milliseconds.
took() {
  for _ in 1 2 3 4 5; do
    ask owner "SET max_parallel_workers_per_gather = 0; EXPLAIN (ANALYZE, TIMING OFF) $(query "$1")" |
      sed -n 's/^Execution Time: \(.*\) ms/\1/p'
  done | sort -n | head -1
}
whole=$(took whole) parted=$(took parted)
echo "whole $whole ms, parted $parted ms"
ratio=$(awk "BEGIN { print ($whole >= 5 * $parted) ? \"at least 5 times as long\" : \"less than 5 times as long\" }")
verdict "PostgreSQL $(ask owner 'SHOW server_version')" "$(how whole); $(how parted); $ratio" \
  "called; taken in; at least 5 times as long"
