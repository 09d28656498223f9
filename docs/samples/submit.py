"""Submit a deposit and wait for its end: ACKLEDGER_URL, ACKLEDGER_API_KEY and the wallet's id."""

import os
import sys

from ackledger.client import Client, Deposit

with Client(os.environ["ACKLEDGER_URL"], os.environ["ACKLEDGER_API_KEY"]) as client:
    deposit = Deposit(destination_wallet_id=sys.argv[1], amount="10.00", currency="EUR")
    transaction = client.submit(deposit, wait_s=10)

print(transaction.id, transaction.status)
