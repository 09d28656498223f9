"""Events: what commits owe, kept in an outbox until the broker has it."""
