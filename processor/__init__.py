"""Messages in, posted transactions out: batching, ledger, posting, relay."""
