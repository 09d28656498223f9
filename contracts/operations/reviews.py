"""The operators' calls on reviews: transactions that a rule holds back."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import (
    BODY_PROBLEMS,
    LIST_PROBLEMS,
    Operation,
    Response,
    Tag,
)
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.review import Review, ReviewPage
from contracts.requests.review import ReviewDecision
from contracts.scopes import Scope
from ledger.words import ReviewState

_DECISION_PROBLEMS: Final = (
    ProblemCode.REVIEW_NOT_FOUND,
    ProblemCode.REVIEW_DECIDED,
    *BODY_PROBLEMS,
)

_LIST: Final = Operation(
    operation_id="list_reviews",
    method="GET",
    path="/v1/reviews",
    tag=Tag.REVIEWS,
    summary="List reviews",
    description="Transactions that a rule holds back, or has held back: the newest first.",
    scope=Scope.OPERATIONS_READ,
    parameters=(
        parameters.query(
            "state", "Only those in this state.", parameters.enum_schema(ReviewState), "OPEN"
        ),
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=ReviewPage, example=examples.REVIEW_PAGE),),
    problems=LIST_PROBLEMS,
)

_APPROVE: Final = Operation(
    operation_id="approve_review",
    method="POST",
    path="/v1/reviews/{review_id}/approve",
    tag=Tag.REVIEWS,
    summary="Approve a transaction",
    description=(
        "Overrules the rule for this transaction. It is posted as soon as no other review of it, "
        "or of its atomic batch, is open; whatever else may refuse it still applies."
    ),
    scope=Scope.OPERATIONS,
    parameters=(parameters.path_id("review_id"),),
    request=ReviewDecision,
    request_examples={
        "approval": {
            "summary": "A known customer",
            "value": {"reason": "confirmed by telephone"},
        }
    },
    responses=(Response(200, "It is approved", model=Review, example=examples.APPROVED_REVIEW),),
    problems=_DECISION_PROBLEMS,
)

_REFUSE: Final = Operation(
    operation_id="refuse_review",
    method="POST",
    path="/v1/reviews/{review_id}/refuse",
    tag=Tag.REVIEWS,
    summary="Refuse a transaction",
    description=(
        "The transaction becomes FAILED `rule_refused`, the others of its atomic batch FAILED "
        "`batch_failed`, and its other reviews are refused with it."
    ),
    scope=Scope.OPERATIONS,
    parameters=(parameters.path_id("review_id"),),
    request=ReviewDecision,
    request_examples={
        "refusal": {
            "summary": "An unknown destination",
            "value": {"reason": "the destination is not known"},
        }
    },
    responses=(Response(200, "It is refused", model=Review, example=examples.REFUSED_REVIEW),),
    problems=_DECISION_PROBLEMS,
)

REVIEW_OPERATIONS: Final = (_LIST, _APPROVE, _REFUSE)
