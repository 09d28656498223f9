"""What is run beside the product; no process of it imports anything from here."""
