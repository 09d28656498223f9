"""Dead letters: collected from the broker, shown to operators, replayed and discarded by them."""
