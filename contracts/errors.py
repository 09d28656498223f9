"""Bad input: one exception family, raised at the edge, once."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.problems import ProblemCode


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
    def invalid_fields(cls, errors: Sequence[FieldError]) -> "ContractError":
        """Return the error for a body whose form is right and whose fields are not."""
        first = errors[0]
        rest = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        place = f"{first.pointer}: " if first.pointer else ""
        return cls(ProblemCode.VALIDATION_FAILED, f"{place}{first.detail}{rest}", errors)
