"""What is sent again after a run is sent as it was: the members of an atomic batch together."""

from dataclasses import replace

from tests.tools.chaos.test_journal import ACCEPTED, JOURNAL, POISON
from tools.chaos.invariants.resolving import requests_of


def test_members_of_an_atomic_batch_are_sent_together_and_once_each() -> None:
    first = replace(JOURNAL, idempotency_key="b.0")
    second = replace(JOURNAL, idempotency_key="b.1")

    requests = requests_of([first, ACCEPTED, second, POISON, first])

    assert requests == [[ACCEPTED], [POISON], [first, second]]
