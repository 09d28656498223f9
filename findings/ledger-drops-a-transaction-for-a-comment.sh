#!/usr/bin/env bash
# ledger 3.3.0 (Debian 12), --pedantic, which is how one has accounts and commodities checked.
#
# A comment below a transaction, `; time: 12:00`, is a tag. One expects an unknown tag to be worth a
# word at most: accounts and commodities are what --pedantic is known for, and no amount depends on a
# comment. The whole transaction is dropped, and the balances are those of a book without it; the
# error names the tag, and every assertion below reports a balance of its own that is wrong. With the
# directive `tag time` before it the same book is right. Without --pedantic nothing is checked.
#
# Seen: "undeclared: exit 1, balance none; declared: exit 0, balance 5.00 USD".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
debian ledger
export LC_ALL=C.UTF-8 LD_LIBRARY_PATH=$ground/debian/usr/lib/ledger:$(echo "$ground"/debian/usr/lib/*-linux-gnu*)
book() {
  printf '%s\n' "$@" 'commodity USD' 'account Assets:A' 'account Assets:B' '' '2026-11-28 * moved' \
    '    ; time: 12:00' '    Assets:A    -5.00 USD' '    Assets:B    5.00 USD'
}
outcome() {
  local code=0 balance
  balance=$(ledger --pedantic --file - balance Assets:B --format '%(amount)\n' 2>/dev/null) || code=$?
  echo "exit $code, balance ${balance:-none}"
}
undeclared=$(book | outcome)
declared=$(book 'tag time' | outcome)
verdict "$(ledger --version | head -n 1 | cut -d, -f1)" "undeclared: $undeclared; declared: $declared" \
  "undeclared: exit 1, balance none; declared: exit 0, balance 5.00 USD"
