"""Access: what an API key may do."""

from enum import StrEnum


class Scope(StrEnum):
    """One right of an API key; a call names the one that it needs."""

    WALLETS_READ = "wallets:read"
    WALLETS_WRITE = "wallets:write"
    TRANSACTIONS_READ = "transactions:read"
    TRANSACTIONS_WRITE = "transactions:write"
    OPERATIONS = "operations"
