"""What the tables hold of one person: written out for them, and made unreadable when they ask."""
