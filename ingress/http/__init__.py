"""HTTP: the application that aiohttp serves, and the fast path for two calls beside it."""
