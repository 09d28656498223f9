"""What must hold after a chaos run: the journal and the events against the books.

C conservation, X one effect a key, T every promise ends, R one key has one answer, N no balance
below its limit, E every end has its event, Q no dead letter is forgotten, O a client's debits of a
wallet are posted as they were accepted.
"""

from ops.chaos.invariants.checking import check
from ops.chaos.invariants.draining import await_drained
from ops.chaos.invariants.resolving import resolve_unknown
from ops.chaos.invariants.verdict import Breach, Verdict

__all__ = ["Breach", "Verdict", "await_drained", "check", "resolve_unknown"]
