"""Reading: transactions, wallets and their histories, as clients see them."""
