"""The posted books as text for other programs: reading, writing, and the stream between them."""
