"""The proof that a long book is migrated under traffic, old processes and new ones side by side."""
