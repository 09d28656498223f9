"""The operators' calls on dead letters."""

from collections.abc import Mapping
from typing import Any, Final

from contracts.dead_letters import (
    BODY_LISTED_BYTES_MAX,
    BODY_SHOWN_BYTES_MAX,
    ENDED_DEFAULT,
    ENDED_MAX,
    GROUP_HOURS,
    GROUPS_MAX,
    NOTE_MAX,
    DeadLetterState,
)
from contracts.messages import DeadLetterReason
from contracts.operations import parameters
from contracts.operations.shapes import (
    LIST_PROBLEMS,
    READ_PROBLEMS,
    Operation,
    Parameter,
    Response,
    Tag,
)
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.pages import (
    DeadLetter,
    DeadLetterGroups,
    DeadLetterOutcome,
    DeadLetterOutcomes,
    DeadLetterPage,
    DeadLetterSummary,
)
from contracts.scopes import Scope

_ONE: Final = parameters.path_id("dead_letter_id")
_REASON: Final = parameters.query(
    "reason", "Only this reason.", parameters.enum_schema(DeadLetterReason)
)
_SUBMITTER: Final = parameters.query(
    "submitter", "Only this submitter's.", {"type": "string"}, "shop"
)
_STATE: Final = parameters.query(
    "state", "Only those in this state.", parameters.enum_schema(DeadLetterState)
)
_FINGERPRINT: Final = parameters.query(
    "fingerprint", "Only this group.", {"type": "string"}, "9f86d081884c7d65"
)
_UNTIL: Final = parameters.query(
    "until",
    "Only those first seen by this moment: what came since it was looked at is not meant.",
    parameters.MOMENT_SCHEMA,
)
_NOTE: Final = parameters.query(
    "note",
    "Why: it stays in the audit log.",
    {"type": "string", "minLength": 1, "maxLength": NOTE_MAX},
    "the sender sent them again, corrected",
)
_DRY_RUN: Final = parameters.query(
    "dry_run",
    "`true`: tell what would become of it, and change nothing.",
    {"type": "boolean", "default": False},
)
_ALL: Final = parameters.query(
    "all",
    "`true`: every open one. Needed without `reason`, `submitter` and `fingerprint`.",
    {"type": "boolean", "default": False},
)
_MOST: Final = Parameter(
    name="limit",
    place="query",
    description="The most that this call ends.",
    schema={"type": "integer", "minimum": 1, "maximum": ENDED_MAX, "default": ENDED_DEFAULT},
)
_FILTERS: Final = (_REASON, _SUBMITTER, _FINGERPRINT, _UNTIL)
_MEANT: Final = (*_FILTERS, _ALL, _DRY_RUN, parameters.CURSOR, _MOST)
_ONE_PROBLEMS: Final = (ProblemCode.DEAD_LETTER_NOT_FOUND, *READ_PROBLEMS)
_END_PROBLEMS: Final = (ProblemCode.DEAD_LETTER_ENDED, *_ONE_PROBLEMS)
_MANY: Final = (
    f"Takes the open ones that fit the filters, in the order in which they arrived, each in a "
    f"commit of its own: at most `limit` ({ENDED_MAX} at most), and fewer when that takes long. "
    "`next_cursor` is null when none is left behind them; otherwise pass it back for the rest. "
    "Safe to repeat: what is ended is not open any more. Takes no body."
)

_TRANSACTION_ID: Final = examples.TRANSACTION["id"]
_REPLAYED: Final[Mapping[str, Any]] = {
    "id": "019aa3b1-0c4e-7a52-8001-3d6f1b2a9c70",
    "outcome": "replayed",
    "detail": "1 recorded",
    "transaction_ids": [_TRANSACTION_ID],
}
_DISCARDED: Final[Mapping[str, Any]] = {
    **_REPLAYED,
    "outcome": "discarded",
    "detail": "given up: its transaction FAILED",
}
_LETTER: Final[Mapping[str, Any]] = {
    "id": _REPLAYED["id"],
    "state": "open",
    "queue": "ackledger.transactions.0",
    "reason": "unknown_version",
    "detail": "version 2 is not 1",
    "fingerprint": "3f0a4f1bb2a6c1d7",
    "body": '{"version": 2}',
    "body_encoding": "text",
    "body_bytes": 14,
    "is_body_whole": True,
    "headers": {},
    "submitter": "shop",
    "transaction_id": None,
    "first_seen_at": examples.TRANSACTION["created_at"],
    "replayed_at": None,
    "discarded_at": None,
}
_GROUPED: Final[Mapping[str, Any]] = {
    "reason": _LETTER["reason"],
    "fingerprint": _LETTER["fingerprint"],
    "detail": _LETTER["detail"],
    "dead_letters": 3,
    "first_seen_at": _LETTER["first_seen_at"],
    "last_seen_at": _LETTER["first_seen_at"],
    "by_hour": [0] * (GROUP_HOURS - 1) + [3],
}


def _outcomes(one: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"dry_run": False, "counts": {one["outcome"]: 1}, "items": [one], "next_cursor": None}


_LIST: Final = Operation(
    operation_id="list_dead_letters",
    method="GET",
    path="/v1/dead-letters",
    tag=Tag.DEAD_LETTERS,
    summary="List dead letters",
    description=(
        f"The newest first, with at most {BODY_LISTED_BYTES_MAX} bytes of each body. Filters "
        "narrow the list together."
    ),
    scope=Scope.OPERATIONS_READ,
    parameters=(
        *_FILTERS,
        parameters.TRANSACTION_ID,
        _STATE,
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(
        Response(
            200,
            "A page",
            model=DeadLetterPage,
            example={"items": [_LETTER], "next_cursor": None},
        ),
    ),
    problems=LIST_PROBLEMS,
)

_SUMMARIZE: Final = Operation(
    operation_id="summarize_dead_letters",
    method="GET",
    path="/v1/dead-letters/summary",
    tag=Tag.DEAD_LETTERS,
    summary="Count dead letters by reason",
    description="Filters narrow what is counted together. Only the newest are counted if many.",
    scope=Scope.OPERATIONS_READ,
    parameters=(*_FILTERS, _STATE),
    responses=(
        Response(
            200,
            "The counts",
            model=DeadLetterSummary,
            example={"by_reason": {"not_json": 2, "unknown_version": 1}, "is_complete": True},
        ),
    ),
    problems=READ_PROBLEMS,
)

_GROUP: Final = Operation(
    operation_id="group_dead_letters",
    method="GET",
    path="/v1/dead-letters/groups",
    tag=Tag.DEAD_LETTERS,
    summary="Group dead letters by what they say",
    description=(
        "By reason, and by the detail without what is quoted, ids and numbers in it: what has one "
        "cause is one group, whose `fingerprint` is a filter of the other calls. The largest "
        f"{GROUPS_MAX} groups; only the newest dead letters are counted if many."
    ),
    scope=Scope.OPERATIONS_READ,
    parameters=(*_FILTERS, _STATE),
    responses=(
        Response(
            200,
            "The groups",
            model=DeadLetterGroups,
            example={"items": [_GROUPED], "is_complete": True},
        ),
    ),
    problems=READ_PROBLEMS,
)

_READ: Final = Operation(
    operation_id="read_dead_letter",
    method="GET",
    path="/v1/dead-letters/{dead_letter_id}",
    tag=Tag.DEAD_LETTERS,
    summary="Read a dead letter",
    description=(
        "With its headers, why it could not be processed, and its body, of which at most "
        f"{BODY_SHOWN_BYTES_MAX} bytes."
    ),
    scope=Scope.OPERATIONS_READ,
    parameters=(_ONE,),
    responses=(Response(200, "The dead letter", model=DeadLetter, example=_LETTER),),
    problems=_ONE_PROBLEMS,
)

_REPLAY: Final = Operation(
    operation_id="replay_dead_letter",
    method="POST",
    path="/v1/dead-letters/{dead_letter_id}/replay",
    tag=Tag.DEAD_LETTERS,
    summary="Replay a dead letter",
    description=(
        "Gives the message another chance, under its own keys and submitter; a quarantined "
        "transaction is PENDING again. What was ended before under the same key stays as it is, "
        "and `detail` says so. A message that is still unusable is refused and stays open. Takes "
        "no body."
    ),
    scope=Scope.OPERATIONS,
    parameters=(_ONE, _DRY_RUN),
    responses=(Response(200, "It is replayed", model=DeadLetterOutcome, example=_REPLAYED),),
    problems=(ProblemCode.DEAD_LETTER_REFUSED, *_END_PROBLEMS),
)

_DISCARD: Final = Operation(
    operation_id="discard_dead_letter",
    method="POST",
    path="/v1/dead-letters/{dead_letter_id}/discard",
    tag=Tag.DEAD_LETTERS,
    summary="Discard a dead letter",
    description=(
        "Gives the message up for good; a quarantined transaction becomes FAILED. Takes no body."
    ),
    scope=Scope.OPERATIONS,
    parameters=(_ONE, _DRY_RUN, _NOTE),
    responses=(Response(200, "It is discarded", model=DeadLetterOutcome, example=_DISCARDED),),
    problems=_END_PROBLEMS,
)

_REPLAY_MANY: Final = Operation(
    operation_id="replay_dead_letters",
    method="POST",
    path="/v1/dead-letters/replay",
    tag=Tag.DEAD_LETTERS,
    summary="Replay dead letters by filter",
    description=f"{_MANY} One that is refused stays open and stops none of the others.",
    scope=Scope.OPERATIONS,
    parameters=_MEANT,
    responses=(
        Response(
            200,
            "What became of each",
            model=DeadLetterOutcomes,
            example=_outcomes(_REPLAYED),
        ),
    ),
    problems=LIST_PROBLEMS,
)

_DISCARD_MANY: Final = Operation(
    operation_id="discard_dead_letters",
    method="POST",
    path="/v1/dead-letters/discard",
    tag=Tag.DEAD_LETTERS,
    summary="Discard dead letters by filter",
    description=_MANY,
    scope=Scope.OPERATIONS,
    parameters=(*_MEANT, _NOTE),
    responses=(
        Response(
            200,
            "What became of each",
            model=DeadLetterOutcomes,
            example=_outcomes(_DISCARDED),
        ),
    ),
    problems=LIST_PROBLEMS,
)

DEAD_LETTER_OPERATIONS: Final = (
    _LIST,
    _SUMMARIZE,
    _GROUP,
    _READ,
    _REPLAY,
    _DISCARD,
    _REPLAY_MANY,
    _DISCARD_MANY,
)
