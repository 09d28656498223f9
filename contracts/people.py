"""People: the words for them, their addresses, and what a password must be; pure."""

import re
import unicodedata
from enum import StrEnum
from typing import Final
from uuid import UUID

EMAIL_MAX: Final = 254
"""Characters of an address: RFC 5321 leaves room for no more."""
EMAIL_PATTERN: Final = (
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
)
"""What browsers take for an address, in ASCII: no two of them look alike."""
PASSWORD_MIN: Final = 8
PASSWORD_MAX: Final = 128
"""Characters; NIST SP 800-63B asks for at least 64, and hashing must have a bound."""
NAME_MAX: Final = 100
_DISTINCT_MIN: Final = 3
_TELLING_MIN: Final = 4
"""A part of an address that is shorter is in many good passwords by chance."""

PERSON_PREFIX: Final = "user:"
"""Begins the submitter of each person, so no system's name does."""


def submitter_of(user_id: UUID) -> str:
    """Return the name under which a person submits."""
    return f"{PERSON_PREFIX}{user_id}"


def user_id_of(submitter: str) -> UUID | None:
    """Return the person who submits under a name; None where that is a system's."""
    if not submitter.startswith(PERSON_PREFIX):
        return None
    try:
        return UUID(submitter.removeprefix(PERSON_PREFIX))
    except ValueError:
        return None


class UserStatus(StrEnum):
    """What a person's account is."""

    UNCONFIRMED = "UNCONFIRMED"
    """Registered; nobody has shown yet that the address is theirs."""
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"
    DELETED = "DELETED"


class TokenPurpose(StrEnum):
    """What a token that came by mail is good for, once."""

    CONFIRM = "confirm"
    RESET = "reset"


class LoginOutcome(StrEnum):
    """What became of a login."""

    SUCCEEDED = "succeeded"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105  # a word for the log
    UNKNOWN_ADDRESS = "unknown_address"
    UNCONFIRMED = "unconfirmed"
    DISABLED = "disabled"
    TOKEN_REUSED = "token_reused"  # noqa: S105  # a word for the log
    """A refresh token was used a second time: its session was revoked."""


class NotificationKind(StrEnum):
    """What a user is told of."""

    NEW_LOGIN = "new_login"
    MONEY_IN = "money_in"
    MONEY_OUT = "money_out"


_EMAIL: Final = re.compile(EMAIL_PATTERN)


def normalized_email(text: str) -> str:
    """Return an address as it is stored and compared; raises ValueError for what is none."""
    if len(text) > EMAIL_MAX or not _EMAIL.fullmatch(text):
        raise ValueError("an e-mail address such as name@example.com is expected")
    return text.lower()


def normalized_password(text: str) -> str:
    """Return a password as it is hashed, however a keyboard wrote it (NFKC)."""
    return unicodedata.normalize("NFKC", text)


def password_weakness(password: str, *, email: str) -> str | None:
    """Return why a password is too weak for an address, None if it is not (NIST SP 800-63B)."""
    lowered = normalized_password(password).lower()
    if len(lowered) < PASSWORD_MIN:
        return f"must have at least {PASSWORD_MIN} characters"
    if len(password) > PASSWORD_MAX:
        return f"must have at most {PASSWORD_MAX} characters"
    if lowered in _COMMON or len(set(lowered)) < _DISTINCT_MIN:
        return "is one of those that are tried first"
    local, _, domain = email.lower().partition("@")
    telling = (part for part in (local, domain) if len(part) >= _TELLING_MIN)
    if any(part in lowered for part in telling):
        return "must not contain your e-mail address"
    return None


_COMMON: Final = frozenset(
    """
    00000000 11111111 12121212 123123123 12341234 123454321 1234554321 12345678 123456789
    1234567890 12345678910 123456789a 1234qwer 147258369 147852369 159753456 1a2b3c4d 1q2w3e4r
    1q2w3e4r5t 1qaz2wsx 1qazxsw2 20002000 22222222 31415926 55555555 66666666 77777777 789456123
    87654321 88888888 987654321 9876543210 99999999 a1234567 a12345678 a123456789 aa123456
    aa12345678 abc12345 abc123456 abcd1234 abcdefgh abcdefg1 access14 administrator ackledger
    ackledger1 adminadmin admin123 admin1234 alexander asdf1234 asdfasdf asdfghjk asdfghjkl
    babygirl barcelona baseball basketball bismillah blink182 butterfly caroline charlie1 charlotte
    chelsea1 chocolate christian christina computer computer1 consumer corvette danielle dragon123
    elephant estrella facebook fernando firebird football football1 freedom1 garfield iloveyou
    iloveyou1 iloveyou2 internet jennifer jonathan jordan23 letmein1 letmein123 liverpool liverpool1
    lovelove maverick mercedes metallica michael1 michelle midnight monkey123 mustang1 mypassword
    nicholas nintendo p4ssw0rd p@ssw0rd p@ssword pa$$w0rd pa55word pass1234 passw0rd passw0rd1
    password password! password01 password1 password1! password11 password12 password123
    password1234 password12345 password2 password3 patricia pokemon1 politics portugal princess
    princess1 q1w2e3r4 q1w2e3r4t5 qazwsxedc qwe123456 qweasdzxc qwer1234 qwerqwer qwert123 qwerty12
    qwerty123 qwerty1234 qwerty12345 qwerty123456 qwertyui qwertyuiop rockstar samantha scorpion
    secret123 security september shadow12 slipknot snowball softball spiderman spongebob sporting
    starwars startrek stephanie summer2024 summer2025 summer2026 sunshine sunshine1 superman
    superstar swordfish tinkerbell trustno1 universe veronica victoria welcome1 welcome123
    whatever william1 winter2025 winter2026 yugioh12 zaq12wsx zaq1zaq1 zxcvbnm1 zxcvbnm123
    """.split()  # noqa: SIM905  # a list that people read
)
"""Passwords of the usual length that every list of stolen ones begins with."""
