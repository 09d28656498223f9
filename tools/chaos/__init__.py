"""Chaos: attack a private system under load, then compare what was promised with the books."""
