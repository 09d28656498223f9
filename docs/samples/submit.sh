#!/usr/bin/env bash
# Submit a deposit and wait for its end: ACKLEDGER_URL, ACKLEDGER_API_KEY and the wallet's id.
set -euo pipefail
wallet_id=$1
# The same key again, after whatever happened, is the same deposit.
key=${2:-$(cat /proc/sys/kernel/random/uuid)}

curl --silent --show-error --fail-with-body \
  --retry 5 --retry-all-errors \
  --header "Authorization: Bearer $ACKLEDGER_API_KEY" \
  --header "Content-Type: application/json" \
  --header "Idempotency-Key: $key" \
  --header "Prefer: wait=10" \
  --data '{"type": "deposit", "destination_wallet_id": "'"$wallet_id"'", "amount": "10.00", "currency": "EUR"}' \
  "$ACKLEDGER_URL/v1/transactions"
echo
