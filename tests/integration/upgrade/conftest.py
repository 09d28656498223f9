"""A database that knows nothing of Ackledger yet, and a broker that knows all of it."""

import pytest

from tests.integration.reconciler.parts import PARTITIONS


@pytest.fixture
def partitions() -> int:
    """How many partitions the virtual host has."""
    return PARTITIONS
