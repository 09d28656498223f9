"""Bad input: one exception family, raised at the edge, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contracts.problems import ProblemCode

ERRORS_MAX: Final = 20
"""Invalid places that one problem names: enough to mend a body, and the answer stays small."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid place of a body: a JSON pointer (RFC 6901) and what is wrong there."""

    pointer: str
    detail: str


class ContractError(Exception):
    """Input that breaks the contract; `code` says how, `errors` say where."""

    def __init__(self, code: ProblemCode, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)

    @classmethod
    def invalid_fields(
        cls, errors: Sequence[FieldError], *, found: int | None = None
    ) -> "ContractError":
        """Return the error for a body whose form is right and whose fields are not.

        It names ERRORS_MAX of them, and says how many there are: `found`, where not all of them
        were written out.
        """
        first, count = errors[0], found or len(errors)
        rest = f" (and {count - 1} more)" if count > 1 else ""
        if count > ERRORS_MAX:
            rest = f" (and {count - 1} more, of which errors has the first {ERRORS_MAX - 1})"
        place = f"{first.pointer}: " if first.pointer else ""
        detail = f"{place}{first.detail}{rest}"
        return cls(ProblemCode.VALIDATION_FAILED, detail, errors[:ERRORS_MAX])
