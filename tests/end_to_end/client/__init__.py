"""The client against a whole system."""
