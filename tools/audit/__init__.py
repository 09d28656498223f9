"""The books recomputed by programs that are not ours: hledger, ledger and beancount."""
