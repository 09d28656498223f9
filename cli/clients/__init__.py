"""What clients of the two doors need around them: addresses, failures, the broker's users."""
