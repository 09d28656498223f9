"""JSON as both doors read it: exact numbers, no name twice, and bounds before any model sees it.

The bounds lie far below what the writers bear to which an accepted value goes: orjson writes 254
levels, and PostgreSQL's json and pydantic take more.
"""

import json
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

import orjson

JSON_DEPTH_MAX: Final = 32
"""Levels of objects and lists in a body: twice what a batch of the deepest metadata has."""
JSON_VALUES_MAX: Final = 64_000
"""Members of objects and elements of lists in a body: a thousand transactions with all ten fields
and more than fifty values of metadata each. Each costs up to a microsecond of the loop."""
COLONS_PER_TRANSACTION_MAX: Final = 6_000
"""Its fields, moments, legs and conditions, a full description, key and metadata hold fewer
(18 + 6 + 400 + 80 + 500 + 255 + 4096)."""
NAME_SHOWN_MAX: Final = 100
"""Characters of a client's own name in a sentence of ours; a name may be as long as the body."""


class TooManyFieldsError(ValueError):
    """A body whose objects have more fields than those of any request."""


def decode_json(body: bytes) -> Any:
    """Return decoded JSON whose numbers with a point or an exponent are Decimal; raises ValueError.

    Refused are NaN and Infinity, which are not JSON, numbers of absurd length, an object that has
    a name twice, what is deeper or has more values than any body needs, and every encoding but
    UTF-8: whatever looks at a body before us reads it as that.
    """
    if len(body) > COLONS_PER_TRANSACTION_MAX:
        _refuse_unparsed(body)
    try:
        # Most bodies hold no number with a point, and orjson reads those three times as fast.
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        # The exact parser says better what is wrong, and reads what orjson is too strict for.
        value = _decode_exactly(body)
        measured(value, depth_max=JSON_DEPTH_MAX, values_max=JSON_VALUES_MAX)
        return value
    names = _names_of_plain(value)
    if names is None:
        names, has_float = measured(value, depth_max=JSON_DEPTH_MAX, values_max=JSON_VALUES_MAX)
        if has_float:
            return _decode_exactly(body)
    return _decode_exactly(body) if _may_have_a_name_twice(body, names) else value


def _refuse_unparsed(body: bytes) -> None:
    """Raise ValueError for a body whose text alone shows more values than are allowed.

    Parsed and judged field by field, a megabyte of them took a second and 150 MB; to count takes a
    millisecond. Each transaction of a body names its key, so there are at most as many. Brackets
    may stand in texts, so where there are too many the texts are taken out first.
    """
    transactions = max(1, body.count(b'"idempotency_key"'))
    if body.count(b":") > COLONS_PER_TRANSACTION_MAX * transactions:
        raise TooManyFieldsError(
            f"too many fields: more than {COLONS_PER_TRANSACTION_MAX} colons for each transaction"
        )
    # All objects and lists but the outermost are values themselves.
    brackets_max = JSON_VALUES_MAX + 1
    if _brackets(body) > brackets_max and _brackets(_STRING.sub(b"", body)) > brackets_max:
        raise ValueError(f"more than {JSON_VALUES_MAX} values")


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_PLAIN: Final = frozenset({str, int, bool, type(None)})
# More than any request has; below, the loop costs less than the walk of what is no usual body.
_PLAIN_MEMBERS_MAX: Final = 100


def _names_of_plain(value: Any) -> int | None:
    """How many names an object has with those of its members; None unless it is a usual one.

    Usual is what nearly every body is: texts, numbers without a point and objects of these, fewer
    of them than the bounds. It takes a fifth of the time of the walk.
    """
    if type(value) is not dict or len(value) > _PLAIN_MEMBERS_MAX:
        return None
    names = len(value)
    for one in value.values():
        if type(one) is str:
            continue
        if type(one) is dict:
            if not _PLAIN.issuperset(map(type, one.values())):
                return None
            names += len(one)
        elif type(one) not in _PLAIN:
            return None
    return names if names <= JSON_VALUES_MAX else None


def measured(value: Any, *, depth_max: int, values_max: int) -> tuple[int, bool]:
    """Return how many names the objects of a decoded value have, and whether it holds a float.

    Raises ValueError for more than `depth_max` levels of objects and lists, and for more than
    `values_max` members and elements in all; the work is bounded by these, whatever the value.
    """
    names = values = depth = 0
    has_float = type(value) is float
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    while level:
        depth += 1
        if depth > depth_max:
            raise ValueError(f"nested more than {depth_max} levels deep")
        inner: list[Any] = []
        for container in level:
            values += len(container)
            if values > values_max:
                raise ValueError(f"more than {values_max} values")
            is_object = type(container) is dict
            names += len(container) if is_object else 0
            members = container.values() if is_object else container
            # Most objects hold nothing else, and so it takes half the time.
            if _PLAIN.issuperset(map(type, members)):
                continue
            for one in members:
                kind = type(one)
                if kind is str:
                    continue
                if kind is dict or kind is list:
                    inner.append(one)
                elif kind is float:
                    has_float = True
        level = inner
    return names, has_float


def shown_name(name: str) -> str:
    """Return a client's own name as a sentence of ours shows it: the beginning of a long one."""
    return name if len(name) <= NAME_SHOWN_MAX else f"{name[:NAME_SHOWN_MAX]}…"


def _may_have_a_name_twice(body: bytes, names: int) -> bool:
    """Whether the text may hold more names than the objects that it was decoded to.

    Each name of the text is followed by a colon, and without blanks by `":`. So a count that is the
    objects' own says that no name was lost; a larger one may come from texts that hold the same
    characters, and only costs the exact parser's time.
    """
    if body.count(b":") == names:
        return False
    return body.translate(None, _BLANKS).count(b'":') != names


_BLANKS: Final = b" \t\n\r"


def _decode_exactly(body: bytes) -> Any:
    # Handed octets, the library would guess their encoding; halves of pairs are pointed at later.
    text = body.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
    try:
        return json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_distinct,
        )
    except RecursionError:
        raise ValueError(f"nested more than {JSON_DEPTH_MAX} levels deep") from None
    except ArithmeticError:
        raise ValueError("a number has an absurd exponent") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        last = {name: place for place, name in enumerate(names)}
        twice = next(name for place, name in enumerate(names) if last[name] != place)
        raise ValueError(f"the name '{shown_name(twice)}' stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_UTF_8: Final = frozenset({"utf-8", "utf8"})


def json_error(media_type: str, charset: str | None) -> str | None:
    """Return what is wrong with a body's type, None for JSON in UTF-8; case does not matter."""
    kind = media_type.lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return f"the content type is '{media_type}', and only application/json is read"
    if charset and charset.lower() not in _UTF_8:
        return f"the charset is '{charset}', and JSON is UTF-8"
    return None


def content_type_error(content_type: str) -> str | None:
    """Return what is wrong with a whole content type, parameters included; None if nothing is."""
    media_type, _, parameters = content_type.partition(";")
    charset = None
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"')
    return json_error(media_type.strip(), charset)
