"""What an operator says when deciding a review."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from contracts.problems import ContractError, FieldError
from contracts.requests.transaction import validated
from contracts.requests.validators import DESCRIPTION_MAX, storable_text

REASON_MAX = DESCRIPTION_MAX
"""Characters of a reason."""
_Reason = Annotated[
    str,
    PlainValidator(storable_text),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": REASON_MAX}),
]


class ReviewDecision(BaseModel):
    """The body of an approval or a refusal."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: _Reason = Field(description="Why; it stays in the audit log")


def reason_of(body: object) -> str:
    """Return the reason that a decoded JSON body gives; raises ContractError."""
    reason = validated(ReviewDecision, body).reason.strip()
    if not reason:
        raise ContractError.invalid_fields([FieldError("/reason", "must not be empty")])
    return reason
