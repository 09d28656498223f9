"""JSON as the rows of a file may have it: what two parsers might read as two things is refused."""

import json
from decimal import Decimal
from typing import Any, Final, NoReturn

_SHOWN: Final = 40
"""Characters of a name that an error repeats."""


def parse_json(text: str) -> Any:
    """Return a value whose numbers with a point or an exponent are Decimal; raises ValueError.

    Refuses NaN and Infinity, numbers of absurd length, values nested too deeply for the parser, and
    a name that stands twice in one object: of two amounts, neither is the one that was meant.
    """
    try:
        return json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ArithmeticError:
        raise ValueError("a number has an absurd exponent") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name '{twice[:_SHOWN]}' stands twice in one object")
    return found
