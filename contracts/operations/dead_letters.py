"""The operators' calls on dead letters."""

from typing import Final

from contracts.access import Scope
from contracts.messages import DeadLetterReason
from contracts.operations import parameters
from contracts.operations.shapes import (
    LIST_PROBLEMS,
    READ_PROBLEMS,
    Operation,
    Response,
    Tag,
)
from contracts.pages import DeadLetter, DeadLetterPage, DeadLetterState
from contracts.problems import ProblemCode

_ONE: Final = (parameters.path_id("dead_letter_id"),)
_PROBLEMS: Final = (
    ProblemCode.DEAD_LETTER_NOT_FOUND,
    *READ_PROBLEMS,
)

_LIST: Final = Operation(
    operation_id="list_dead_letters",
    method="GET",
    path="/v1/dead-letters",
    tag=Tag.DEAD_LETTERS,
    summary="List dead letters",
    description="The newest first. Filters narrow the list together.",
    scope=Scope.OPERATIONS,
    parameters=(
        parameters.query("reason", "Only this reason.", parameters.enum_schema(DeadLetterReason)),
        parameters.query("submitter", "Only this submitter's.", {"type": "string"}, "shop"),
        parameters.query(
            "state", "Only those in this state.", parameters.enum_schema(DeadLetterState)
        ),
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=DeadLetterPage),),
    problems=LIST_PROBLEMS,
)

_READ: Final = Operation(
    operation_id="read_dead_letter",
    method="GET",
    path="/v1/dead-letters/{dead_letter_id}",
    tag=Tag.DEAD_LETTERS,
    summary="Read a dead letter",
    description="With its body, its headers and why it could not be processed.",
    scope=Scope.OPERATIONS,
    parameters=_ONE,
    responses=(Response(200, "The dead letter", model=DeadLetter),),
    problems=_PROBLEMS,
)

_REPLAY: Final = Operation(
    operation_id="replay_dead_letter",
    method="POST",
    path="/v1/dead-letters/{dead_letter_id}/replay",
    tag=Tag.DEAD_LETTERS,
    summary="Replay a dead letter",
    description="Publishes the message again; its transaction, if any, is PENDING again.",
    scope=Scope.OPERATIONS,
    parameters=_ONE,
    responses=(Response(200, "The dead letter, replayed", model=DeadLetter),),
    problems=_PROBLEMS,
)

_DISCARD: Final = Operation(
    operation_id="discard_dead_letter",
    method="POST",
    path="/v1/dead-letters/{dead_letter_id}/discard",
    tag=Tag.DEAD_LETTERS,
    summary="Discard a dead letter",
    description="Gives the message up for good; its transaction, if any, is FAILED.",
    scope=Scope.OPERATIONS,
    parameters=_ONE,
    responses=(Response(200, "The dead letter, discarded", model=DeadLetter),),
    problems=_PROBLEMS,
)

DEAD_LETTER_OPERATIONS: Final = (_LIST, _READ, _REPLAY, _DISCARD)
