"""Messages in, posted transactions out: batching, the ledger, posting, relay, reconciler, verify."""
