"""Tracing: spans of what was done, handed to OpenTelemetry when they ended; nothing when off."""
