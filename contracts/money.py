"""Money: an integer number of minor units and its currency. Text only at the edge, floats never.

A currency is a code of ISO 4217 or an asset that operators registered, such as loyalty points.
"""

import functools
import re
from decimal import Context, Decimal, Inexact
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from ledger.words import MINOR_MAX

ISO_4217_EDITION: Final = "2026-09-17"
"""When the maintenance agency published the list of current codes that stands here ("list one")."""

_EXPONENT_0: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_EXPONENT_2: Final = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
    "GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD "
    "LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB "
    "PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW "
    "ZWG"
)
_EXPONENT_3: Final = "BHD IQD JOD KWD LYD OMR TND"
_EXPONENT_4: Final = "CLF UYW"

# The year of withdrawal by the agency's list of historic codes ("list three"), the exponent, and
# the codes.
_WITHDRAWN: Final = (
    (2001, 0, "BYB"),
    (2002, 0, "BEF ESP GRD ITL LUF PTE TPE"),
    (2002, 2, "ATS DEM FIM FRF IEP NLG"),
    (2003, 0, "ADP"),
    (2003, 2, "AFA BGL SRG YUM"),
    (2004, 0, "MGF"),
    (2004, 2, "RUR"),
    (2005, 0, "ROL TRL"),
    (2005, 2, "AYM AZM"),
    (2006, 2, "CSD MZM ZWN"),
    (2007, 2, "SDD SIT"),
    (2008, 2, "CYP GHC MTL VEB ZWD"),
    (2009, 2, "SKK TMM ZWR"),
    (2011, 2, "EEK"),
    (2012, 2, "ZMK"),
    (2014, 2, "LTL LVL USS"),
    (2017, 0, "BYR"),
    (2017, 2, "MRO STD"),
    (2018, 2, "VEF"),
    (2021, 2, "CUC"),
    (2023, 2, "HRK SLL"),
    (2024, 2, "ZWL"),
    (2025, 2, "ANG"),
    (2026, 2, "BGN"),
)
_WITHOUT_MINOR_UNIT: Final = "XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX"
# What left before 2001, and some funds that left later: no book of ours was ever kept in them.
_LEFT_EARLIER: Final = (
    "ALK AOK AON AOR ARA ARP ARY BAD BEC BEL BGJ BGK BOP BRB BRC BRE BRN BRR BUK CHC CSJ CSK DDM "
    "ECS ECV ESA ESB GEK GHP GNE GNS GQE GWE GWP HRD ILP ILR ISJ LAJ LSM LTT LUC LUL LVR MLF MTP "
    "MVQ MXP MZE NIC PEH PEI PES PLZ RHD ROK SDP SUR TJR UAK UGS UGW UYN UYP VNC XEU XFO XFU XRE "
    "YDD YUD YUN ZAL ZRN ZRZ ZWC"
)

EXPONENTS: Final[dict[str, int]] = {
    code: exponent
    for exponent, codes in ((0, _EXPONENT_0), (2, _EXPONENT_2), (3, _EXPONENT_3), (4, _EXPONENT_4))
    for code in codes.split()
}
"""Every code that new requests may name, to the number of decimals of its minor unit.

It grows while a process runs: `register_asset` adds what was registered.
"""
WITHDRAWN_IN: Final[dict[str, int]] = {
    code: year for year, _, codes in _WITHDRAWN for code in codes.split()
}
"""Code to the year in which it left ISO 4217; its amounts are written as they always were."""
_READABLE: Final[dict[str, int]] = EXPONENTS | {
    code: exponent for _, exponent, codes in _WITHDRAWN for code in codes.split()
}
_ISO_4217: Final = frozenset(
    [*_READABLE, *_WITHOUT_MINOR_UNIT.split(), *_LEFT_EARLIER.split()],
)
_REGISTERED: Final[set[str]] = set()

CODE_PATTERN: Final = "^[A-Z0-9]{3,12}$"
EXPONENT_MAX: Final = 12


AMOUNT_MINOR_MAX: Final = 10**15
"""The largest amount of one transaction and the largest overdraft limit: ten trillion dollars.
A currency's external wallet holds the sum of all that was paid in; it takes thousands of the
largest amounts before it is full, where one of 64 bits would end all deposits in that currency."""

# Twice the digits that 64 bits need; longer text is refused before any arithmetic.
_TEXT_MAX: Final = 40
# Any digit that would be lost raises instead: decimal's own context rounds to 28 digits in silence.
_EXACT: Final = Context(prec=2 * _TEXT_MAX, traps=[Inexact])
_DECIMAL_TEXT: Final = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


class AmountError(ValueError):
    """An amount or a currency that the contract does not allow; the message says why."""


class UnknownCurrencyError(LookupError):
    """An amount cannot be written: nobody told this process how many decimals its currency has."""


class Money(NamedTuple):
    """An amount in minor units (cents for USD, fils for KWD) of one currency."""

    minor: int
    currency: str

    def __str__(self) -> str:
        return f"{format_minor(self.minor, self.currency)} {self.currency}"


def decimal_of(value: object) -> Decimal:
    """Return the exact decimal of a JSON string or number.

    Raises AmountError for anything else, a sign, an exponent in a string, NaN and infinity.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise AmountError("an amount is a decimal string such as '10.50'")
    if isinstance(value, str):
        if len(value) > _TEXT_MAX or not _DECIMAL_TEXT.fullmatch(value):
            raise AmountError("an amount is digits with an optional decimal point, such as '10.50'")
        return Decimal(value)
    number = Decimal(value)
    if not number.is_finite():
        raise AmountError("an amount is a finite number")
    return number


def exponent_of(currency: str) -> int:
    """Return the number of decimals of a currency, also of one that left ISO 4217.

    Raises AmountError for an unknown one.
    """
    try:
        return _READABLE[currency]
    except KeyError:
        raise AmountError(_unknown(currency)) from None


def currency_refusal(currency: str, *, pays_out: bool = False) -> str | None:
    """Return why a new request may not name a currency; None if it may.

    `pays_out` is for what only takes money out of a wallet: nobody's money is locked in because
    its currency left ISO 4217.
    """
    if currency in EXPONENTS:
        return None
    if currency in WITHDRAWN_IN:
        only = "only withdrawals from the wallets that hold it are accepted"
        return (
            None if pays_out else f"'{currency}' left ISO 4217 in {WITHDRAWN_IN[currency]}: {only}"
        )
    if currency in _READABLE:
        return f"'{currency}' was registered a moment ago and is accepted within seconds"
    return _unknown(currency)


def _unknown(currency: str) -> str:
    return f"'{currency}' is not an ISO 4217 currency code or a registered asset"


def minor_units(amount: Decimal, currency: str) -> int:
    """Return a non-negative amount in minor units, exactly; raises AmountError otherwise."""
    exponent = exponent_of(currency)
    if amount < 0:
        raise AmountError("an amount is not negative")
    # Compared by magnitude first: 1e400 must not become an integer of 400 digits.
    if amount and amount.adjusted() + exponent > len(str(MINOR_MAX)):
        raise AmountError("the amount is beyond 64 bits of minor units")
    try:
        scaled = _EXACT.scaleb(amount, exponent)
    except Inexact:
        scaled = Decimal("NaN")
    minor = 0 if scaled.is_nan() else int(scaled)
    if scaled != minor:
        raise AmountError(f"{currency} has {exponent} decimals, the amount has more")
    if minor > MINOR_MAX:
        raise AmountError("the amount is beyond 64 bits of minor units")
    return minor


def amount_minor(amount: Decimal, currency: str) -> int:
    """Return what a client may move or overdraw at most, in minor units; raises AmountError."""
    minor = minor_units(amount, currency)
    if minor > AMOUNT_MINOR_MAX:
        most = format_minor(AMOUNT_MINOR_MAX, currency)
        raise AmountError(f"at most {most} {currency} are accepted")
    return minor


class _Fractions(Protocol):
    def __getitem__(self, part: int, /) -> str:
        """Return what follows the whole units, for a number of minor units: '.00' to '.99'."""


class _WrittenFractions:
    """Fractions of so many digits that no table of them is kept."""

    def __init__(self, exponent: int) -> None:
        self._exponent = exponent

    def __getitem__(self, part: int, /) -> str:
        return f".{part:0{self._exponent}d}"


# Five amounts stand in each event: looked up they take a third of the time. Ten thousand texts are
# 0.6 MB; assets with more decimals pay for the writing.
_TABLE_EXPONENT_MAX: Final = 4


def _fractions(exponent: int) -> _Fractions:
    if exponent == 0:
        return ("",)
    if exponent > _TABLE_EXPONENT_MAX:
        return _WrittenFractions(exponent)
    return tuple(f".{part:0{exponent}d}" for part in range(10**exponent))


@functools.cache  # as many answers as exponents
def _scale_of(exponent: int) -> tuple[int, _Fractions]:
    return 10**exponent, _fractions(exponent)


_SCALES: Final = {code: _scale_of(exponent) for code, exponent in _READABLE.items()}


def format_minor(minor: int, currency: str) -> str:
    """Return minor units as a decimal string with exactly the currency's decimals.

    Raises UnknownCurrencyError.
    """
    try:
        scale, fractions = _SCALES[currency]
    except KeyError:
        raise UnknownCurrencyError(_unknown(currency)) from None
    if minor < 0:
        return f"-{-minor // scale}{fractions[-minor % scale]}"
    return f"{minor // scale}{fractions[minor % scale]}"


class AssetSource(StrEnum):
    """Who gave a code its meaning."""

    ISO_4217 = "iso4217"
    REGISTERED = "registered"


class AssetStatus(StrEnum):
    """Whether new requests may name it."""

    ACTIVE = "active"
    WITHDRAWN = "withdrawn"


class Asset(NamedTuple):
    """A currency or a registered asset; `withdrawn_in` is a year, None for what is active."""

    code: str
    exponent: int
    source: AssetSource
    withdrawn_in: int | None

    @property
    def status(self) -> AssetStatus:
        """Whether new requests may name it."""
        return AssetStatus.ACTIVE if self.withdrawn_in is None else AssetStatus.WITHDRAWN


def register_asset(code: str, exponent: int, *, is_usable: bool) -> None:
    """Let amounts in an asset be written from now on, and requests name it once it `is_usable`.

    Safe to repeat. A code that ISO 4217 took after it was registered keeps what it was registered
    with: books are kept in it.
    """
    if code not in _REGISTERED:
        _READABLE[code] = exponent
        _SCALES[code] = _scale_of(exponent)
        _REGISTERED.add(code)
    if is_usable:
        EXPONENTS[code] = exponent


def is_iso_4217(code: str) -> bool:
    """Whether a code is one of ISO 4217, of today or of the past: no asset may be called so."""
    return code in _ISO_4217


def known_assets() -> list[Asset]:
    """Return every asset that requests may name, and those that left ISO 4217, by their codes."""
    return [_asset(code) for code in sorted(EXPONENTS.keys() | WITHDRAWN_IN.keys())]


def _asset(code: str) -> Asset:
    source = AssetSource.REGISTERED if code in _REGISTERED else AssetSource.ISO_4217
    withdrawn_in = None if code in EXPONENTS else WITHDRAWN_IN[code]
    return Asset(code, _READABLE[code], source, withdrawn_in)
