"""The ingress with one query per status read: all else, from the key check to the view, is ours.

Run, with the ingress's own settings in the environment:
`python -m tools.bench.rivals.ungathered_ingress`
"""

import runpy
from typing import Any, TypeVar

from ingress.reads import gathered
from runtime.service.batcher import MicroBatcher
from runtime.service.settings import IngressSettings

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECTIONS = IngressSettings.model_fields["ingress_database_connections"].default
"""As many queries at once as there are connections to the database."""


class OneByOne(MicroBatcher[Item, Result]):
    """Gathers nothing: every item is a group of its own."""

    def __init__(self, work: Any, **settings: Any) -> None:
        super().__init__(work, **{**settings, "group_max": 1, "workers": CONNECTIONS})


def ungather() -> None:
    """Let reads that are made from now on gather nothing."""
    if gathered.GatheredReads.__init__.__globals__["MicroBatcher"] is not MicroBatcher:
        raise AssertionError("reads are gathered by something else now: replace that")
    setattr(gathered, "MicroBatcher", OneByOne)  # noqa: B010  # a name of the module's own


if __name__ == "__main__":
    ungather()
    runpy.run_module("ingress", run_name="__main__")
