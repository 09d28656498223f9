"""What the calls of both lanes work with."""

from dataclasses import dataclass

from ingress.acceptance import Acceptance
from ingress.access import ApiKeys
from ingress.backlog import BacklogGauge
from ingress.finality import FinalityWatch
from ingress.transaction_store import TransactionStore


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each, shared by the lanes."""

    keys: ApiKeys
    acceptance: Acceptance
    store: TransactionStore
    finality: FinalityWatch
    backlog: BacklogGauge
