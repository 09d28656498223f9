"""Files replayed through both doors of a running system."""
