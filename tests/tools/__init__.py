"""Tests of the tools: `make test-tools` runs them, `make test` leaves them out unless asked."""
