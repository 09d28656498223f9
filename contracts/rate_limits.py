"""Rate limits as an operator writes them and a client reads them: so many requests in a window.

Pure: who is limited as what stands in the ingress, and so does the counting.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class LimitClass(StrEnum):
    """Whom or what a limit is for; clients see the word in `RateLimit-Policy`."""

    ANONYMOUS = "anonymous"
    """A call without a token, by its address."""
    AUTHENTICATED = "authenticated"
    """A person."""
    PREMIUM = "premium"
    """A person or a system that ACKLEDGER_RATE_LIMIT_CLIENTS names so."""
    SYSTEM = "system"
    """An API key's client."""
    LOGIN = "login"
    """An attempt to log in, by its address; beside `anonymous`."""
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"
    """A person's transaction of any other type too; these three are beside `authenticated`."""


CLIENT_CLASSES: Final = (LimitClass.AUTHENTICATED, LimitClass.PREMIUM, LimitClass.SYSTEM)
"""Those of which a client has one."""
WINDOWS_MAX: Final = 3
"""Of a class: a short, a medium and a long one."""
QUOTA_MAX: Final = 1_000_000_000
SECONDS_MAX: Final = 31 * 86_400

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW: Final = re.compile(r"([0-9]{1,10})/([0-9]{0,7})([smhd])", re.ASCII)
_NOTHING: Final = "none"


class Window(NamedTuple):
    """`quota` requests at once, and so many in any `seconds` in the long run."""

    quota: int
    seconds: float

    @property
    def interval_us(self) -> int:
        """Microseconds after which one request more is allowed."""
        return max(1, round(self.seconds * 1_000_000 / self.quota))

    @property
    def label(self) -> str:
        """The window's length as it is written: `1m`, `90s`."""
        for unit in "dhm":
            if self.seconds % _UNITS[unit] == 0:
                return f"{self.seconds // _UNITS[unit]:.0f}{unit}"
        return f"{self.seconds:g}s"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The windows of each class that has any."""

    windows: Mapping[LimitClass, tuple[Window, ...]]

    def of(self, kind: LimitClass) -> tuple[Window, ...]:
        """Return a class's windows; none: no limit."""
        return self.windows.get(kind, ())

    def with_system(self, *, per_s: float, burst: int) -> "RateLimits":
        """Return the same with a limit for API keys' clients; raises ValueError for a second one.

        `burst` requests at once and `per_s` a second in the long run; 0 a second changes nothing.
        """
        if not per_s:
            return self
        if LimitClass.SYSTEM in self.windows:
            raise ValueError("its class 'system' is set by ACKLEDGER_RATE_LIMIT_PER_S already")
        window = Window(burst, burst / per_s)
        return RateLimits({**self.windows, LimitClass.SYSTEM: (window,)})


def parse_rate_limits(text: str, *, defaults: "RateLimits | None" = None) -> RateLimits:
    """Return `class=quota/window,… …` as limits; raises ValueError with a sentence.

    A window is a number of `s`, `m`, `h` or `d`, 1 without one. `class=none` lifts a limit; classes
    that are not named keep the defaults.
    """
    windows = dict((defaults or _DEFAULTS).windows)
    named = set()
    for part in text.split():
        word, _, given = part.partition("=")
        kind = _class_of(word, among=LimitClass)
        if kind in named:
            raise ValueError(f"{kind} stands twice")
        named.add(kind)
        windows[kind] = () if given == _NOTHING else _windows_of(given)
    return RateLimits({kind: some for kind, some in windows.items() if some})


def parse_client_classes(text: str) -> Mapping[str, LimitClass]:
    """Return `name=class …` by name; raises ValueError with a sentence.

    A name is an API key's client or a person's id.
    """
    classes: dict[str, LimitClass] = {}
    for part in text.split():
        name, _, word = part.rpartition("=")
        if not name:
            raise ValueError(f"expected name=class, not {part!r}")
        if name in classes:
            raise ValueError(f"{name} stands twice")
        classes[name] = _class_of(word, among=CLIENT_CLASSES)
    return classes


def _class_of(word: str, *, among: Iterable[LimitClass]) -> LimitClass:
    known = list(among)
    if word not in known:
        raise ValueError(f"{word!r} is none of {', '.join(known)}")
    return LimitClass(word)


def _windows_of(text: str) -> tuple[Window, ...]:
    windows = tuple(_window_of(part) for part in text.split(","))
    if len(windows) > WINDOWS_MAX:
        raise ValueError(f"at most {WINDOWS_MAX} windows a class, not {text!r}")
    if len({window.seconds for window in windows}) < len(windows):
        raise ValueError(f"two windows of one length in {text!r}")
    return windows


def _window_of(text: str) -> Window:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"expected requests/window such as 100/1m, not {text!r}")
    window = Window(int(match[1]), int(match[2] or 1) * _UNITS[match[3]])
    if not (1 <= window.quota <= QUOTA_MAX and 1 <= window.seconds <= SECONDS_MAX):
        raise ValueError(f"1 to {QUOTA_MAX} requests in 1 s to 31 d, not {text!r}")
    return window


DEFAULT_TEXT: Final = (
    "anonymous=10/1m authenticated=100/1m,2000/1h,20000/1d premium=1000/1m "
    "login=5/1m,20/1h,100/1d deposit=20/1m,200/1d withdrawal=10/1m,100/1d transfer=30/1m,500/1d"
)
"""What people and callers without a token may do; systems have no limit until one is set."""
_DEFAULTS: Final = parse_rate_limits(DEFAULT_TEXT, defaults=RateLimits({}))
