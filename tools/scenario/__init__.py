"""A seeded day of a payment service over both doors, and what it must come to."""
