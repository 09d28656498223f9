"""Making any text fit for a terminal: what clients wrote must not steer it. Pure.

An operator's screen shows keys, descriptions, message types and header names as their senders chose
them. Raw, they could set the terminal's title, hide themselves, write over other lines, or turn the
direction of what is read.
"""

import unicodedata
from typing import Final

_NAMED: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_BYTE_MAX: Final = 0xFF
_BASIC_PLANE_MAX: Final = 0xFFFF


def printable(text: str, *, keeps_lines: bool = False) -> str:
    r"""Return a text with everything that is not visible written out, such as \x1b or \u202e.

    That are control characters, line breaks (unless `keeps_lines`), marks of direction and others
    without a width, halves of surrogate pairs, and what Unicode has not assigned. Applied twice it
    is the same.
    """
    if text.isprintable():
        return text
    return "".join(_shown(one, keeps_lines=keeps_lines) for one in text)


def json_safe(json_text: str) -> str:
    r"""Return JSON with the same characters of its strings as \uXXXX; line breaks are layout."""
    if json_text.replace("\n", "").isprintable():
        return json_text
    return "".join(
        one if one == "\n" or _is_visible(one) else _json_escape(one) for one in json_text
    )


def _is_visible(one: str) -> bool:
    return one.isprintable() or unicodedata.category(one) == "Zs"


def _shown(one: str, *, keeps_lines: bool) -> str:
    if _is_visible(one) or (keeps_lines and one == "\n"):
        return one
    code = ord(one)
    if code <= _BYTE_MAX:
        return _NAMED.get(one, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= _BASIC_PLANE_MAX else f"\\U{code:08x}"


def _json_escape(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
