"""The fast path: the two calls that clients make most, without a task or an object too many.

It reads a strict subset of HTTP/1.1 and answers `POST /v1/transactions` and
`GET /v1/transactions/{id}`. A connection that sends anything else is handed over to aiohttp, with
what it sent, for good. docs/decisions/0022-an-express-lane.md tells why.
"""
