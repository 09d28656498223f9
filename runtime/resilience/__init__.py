"""What an error of a server means for the work that it ended."""
