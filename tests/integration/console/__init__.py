"""The console, on a whole system."""
