"""What belongs to whom: wallets, and the upstream systems that may move them."""
