"""The relay and the publisher beneath it, on servers of their own."""
