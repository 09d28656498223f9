"""Verification: the proof, from the tables alone, that the books balance."""
