"""Every call of the HTTP surface, as data.

The server's routes and the OpenAPI document are both built from this table, so they cannot drift
apart.
"""

from typing import Final

from contracts.operations.assets import ASSET_OPERATIONS
from contracts.operations.dead_letters import DEAD_LETTER_OPERATIONS
from contracts.operations.events import EVENT_OPERATIONS, WEBHOOK_OPERATIONS
from contracts.operations.people import PEOPLE_OPERATIONS
from contracts.operations.reviews import REVIEW_OPERATIONS
from contracts.operations.service import SERVICE_OPERATIONS
from contracts.operations.shapes import (
    BODY_BYTES_MAX,
    ROUTING_PROBLEMS,
    WAIT_S_MAX,
    Operation,
    Parameter,
    Response,
    ResponseHeader,
    Tag,
)
from contracts.operations.trail import AUDIT_OPERATIONS, INTEGRITY_OPERATIONS, SEAL_OPERATIONS
from contracts.operations.transactions import TRANSACTION_OPERATIONS
from contracts.operations.wallets import WALLET_OPERATIONS

__all__ = [
    "BODY_BYTES_MAX",
    "OPERATIONS",
    "ROUTING_PROBLEMS",
    "WAIT_S_MAX",
    "Operation",
    "Parameter",
    "Response",
    "ResponseHeader",
    "Tag",
]

OPERATIONS: Final[tuple[Operation, ...]] = (
    *WALLET_OPERATIONS,
    *TRANSACTION_OPERATIONS,
    *EVENT_OPERATIONS,
    *WEBHOOK_OPERATIONS,
    *ASSET_OPERATIONS,
    *SEAL_OPERATIONS,
    *INTEGRITY_OPERATIONS,
    *PEOPLE_OPERATIONS,
    *AUDIT_OPERATIONS,
    *DEAD_LETTER_OPERATIONS,
    *REVIEW_OPERATIONS,
    *SERVICE_OPERATIONS,
)
"""What the server serves and the document describes."""
