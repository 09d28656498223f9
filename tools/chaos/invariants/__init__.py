"""What must hold after a chaos run: the journal and the events against the books.

C conservation, X one effect a key, T every promise ends, R one key has one answer, N no balance
below its limit, E every end has its event, L and so has whoever follows events over HTTP, D each
webhook gets what it asked for, Q no dead letter is forgotten, O a submitter's
transactions of a wallet are posted as they were accepted, whichever process accepted them.
"""

from tools.chaos.invariants.checking import OrderTerms, check
from tools.chaos.invariants.draining import await_drained
from tools.chaos.invariants.resolving import resolve_unknown
from tools.chaos.invariants.verdict import Breach, Verdict

__all__ = ["Breach", "OrderTerms", "Verdict", "await_drained", "check", "resolve_unknown"]
