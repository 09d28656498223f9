"""The commands, a module each: `register(app)` adds it, and imports wait until it runs."""
