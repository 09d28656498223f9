"""Two queues of transactions, as the reconciler's tests have them."""

import pytest

from tests.integration.reconciler.conftest import PARTITIONS


@pytest.fixture(scope="session")
def partitions() -> int:
    """Two queues of transactions."""
    return PARTITIONS
