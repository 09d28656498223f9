"""The command line, the private local stack, and the drivers of demo and replay."""
