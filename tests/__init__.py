"""The tests; the helpers named here explain a failed assertion as a test does."""

import pytest

pytest.register_assert_rewrite("tests.support", "tests.integration.ingress.document")
