"""How what a client asks for can end: completed, or with one of these failure codes. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from ledger.words import FailureCode
from tools.chaos.journal import Act

COMPLETED: Final = "completed"

_SHORT: Final = (COMPLETED, FailureCode.INSUFFICIENT_FUNDS)
_OF_HOLD: Final = (
    COMPLETED,
    FailureCode.HOLD_NOT_FOUND,
    FailureCode.HOLD_CLOSED,
    FailureCode.HOLD_EXPIRED,
)
_MEMBER: Final = (FailureCode.BATCH_FAILED, FailureCode.INSUFFICIENT_FUNDS)
_BACK: Final = (
    COMPLETED,
    FailureCode.NOT_REVERSIBLE,
    FailureCode.ALREADY_REVERSED,
    FailureCode.AMOUNT_EXCEEDS_REVERSIBLE,
)

ENDINGS: Final[Mapping[Act, tuple[str, ...]]] = {
    Act.OPENING: (COMPLETED,),
    Act.PROBE: (COMPLETED,),
    Act.DEPOSIT: (COMPLETED,),
    Act.WITHDRAWAL: _SHORT,
    Act.TRANSFER: _SHORT,
    Act.INSUFFICIENT_FUNDS: (FailureCode.INSUFFICIENT_FUNDS,),
    Act.UNKNOWN_WALLET: (FailureCode.WALLET_NOT_FOUND,),
    Act.FROZEN_WALLET: (FailureCode.WALLET_FROZEN,),
    Act.CURRENCY_MISMATCH: (FailureCode.CURRENCY_MISMATCH,),
    Act.HOLD: _SHORT,
    Act.SHORT_HOLD: _SHORT,
    # What is held is there: a capture never lacks funds.
    Act.CAPTURE: (*_OF_HOLD, FailureCode.AMOUNT_EXCEEDS_HOLD),
    Act.RELEASE: _OF_HOLD,
    Act.REVERSAL: (*_BACK, FailureCode.INSUFFICIENT_FUNDS),
    Act.FORCED_REVERSAL: _BACK,
    Act.JOURNAL: _SHORT,
    Act.EXCHANGE: _SHORT,
    Act.ATOMIC: (COMPLETED, *_MEMBER),
    Act.DOOMED_ATOMIC: _MEMBER,
    Act.CONDITION: (*_SHORT, FailureCode.CONDITION_FAILED),
    Act.VALID_UNTIL: (*_SHORT, FailureCode.EXPIRED),
    Act.SCHEDULED: (*_SHORT, FailureCode.CANCELLED),
}
"""Of acts that ask for something new; a repetition ends as what it repeats."""


def endings() -> Iterator[tuple[str, str]]:
    """Yield each act with each of its endings."""
    for act, codes in ENDINGS.items():
        for code in codes:
            yield act.value, str(code)
