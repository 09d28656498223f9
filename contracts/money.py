"""Money: an integer number of minor units and its currency. Text only at the edge, floats never."""

import re
from decimal import Context, Decimal, Inexact
from typing import Final, NamedTuple

from ledger.words import MINOR_MAX

_EXPONENT_0: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_EXPONENT_2: Final = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD "
    "CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL "
    "GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR "
    "LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD "
    "PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC "
    "SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW "
    "ZWG"
)
_EXPONENT_3: Final = "BHD IQD JOD KWD LYD OMR TND"
_EXPONENT_4: Final = "CLF UYW"

EXPONENTS: Final[dict[str, int]] = {
    code: exponent
    for exponent, codes in ((0, _EXPONENT_0), (2, _EXPONENT_2), (3, _EXPONENT_3), (4, _EXPONENT_4))
    for code in codes.split()
}
"""Currency code to the number of decimals of its minor unit."""


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


class Money(NamedTuple):
    """An amount in minor units (cents for USD, fils for KWD) of one ISO 4217 currency."""

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
    """Return the number of decimals of a currency; raises AmountError for an unknown one."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise AmountError(f"'{currency}' is not an ISO 4217 currency code") from None


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


def _fractions(exponent: int) -> tuple[str, ...]:
    """What stands behind the whole units, for each number of minor units: '.00' to '.99'."""
    return tuple(f".{part:0{exponent}d}" for part in range(10**exponent)) if exponent else ("",)


# Five amounts stand in each event: looked up they take a third of the time.
_FRACTIONS: Final = {exponent: _fractions(exponent) for exponent in set(EXPONENTS.values())}
_SCALES: Final = {
    currency: (10**exponent, _FRACTIONS[exponent]) for currency, exponent in EXPONENTS.items()
}


def format_minor(minor: int, currency: str) -> str:
    """Return minor units as a decimal string with exactly the currency's decimals."""
    scale, fractions = _SCALES[currency]
    if minor < 0:
        return f"-{-minor // scale}{fractions[-minor % scale]}"
    return f"{minor // scale}{fractions[minor % scale]}"
