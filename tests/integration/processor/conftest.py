"""One system for the modules of this folder that come in by the doors."""

import pytest

from tests.integration.ingress.serving import CheckedDoors
from tests.integration.ingress.shared_doors import api, doors
from tests.support import Upstream

__all__ = ["api", "doors"]


@pytest.fixture(scope="package")
def upstream(doors: CheckedDoors) -> Upstream:
    """The AMQP door, for the submitter 'demo'."""
    return doors.upstream
