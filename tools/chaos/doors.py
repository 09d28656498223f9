"""Where a chaos run reaches the system that it attacks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The addresses of both doors, and what the checks read.

    The key of the HTTP door and the user of the AMQP door belong to one `submitter`, so that a key
    used at both doors is one key. `amqp_url` may lead through a proxy; `database_url` and
    `events_amqp_url` lead straight to the servers, the latter for a user that may declare queues.
    """

    http_urls: tuple[str, ...]
    api_key: str
    amqp_url: str
    database_url: str
    events_amqp_url: str
    submitter: str
