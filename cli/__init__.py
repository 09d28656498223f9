"""The `ackledger` command: operators' and clients' commands."""
