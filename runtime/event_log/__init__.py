"""The log of events: what one is, whom it concerns, and what each caller sees of it."""
