"""The samples in languages whose libraries are not in the environment: `make test-samples`."""
