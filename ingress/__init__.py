"""HTTP in, PENDING rows and confirmed messages out."""
