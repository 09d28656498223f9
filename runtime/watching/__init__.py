"""What running processes say of themselves on their status ports, and what happens a second."""
