"""Dead letters: kept from the broker's queue, and replayed or discarded by operators."""
