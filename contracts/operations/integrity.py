"""The operators' calls on the books' integrity: what was found, and a verification of all."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import LIST_PROBLEMS, READ_PROBLEMS, Operation, Response, Tag
from contracts.representations import examples
from contracts.representations.integrity import Integrity, IntegrityFindingPage, Verification
from contracts.scopes import Scope

_READ: Final = Operation(
    operation_id="read_integrity",
    method="GET",
    path="/v1/integrity",
    tag=Tag.INTEGRITY,
    summary="Read how far the books are checked",
    description=(
        "The reconciler checks what was posted by itself, within seconds, and recomputes seals. "
        "What was changed behind that, only a verification of the whole book sees: the last one "
        "that was asked for is here, with how far it is and what it came to."
    ),
    scope=Scope.OPERATIONS_READ,
    responses=(
        Response(200, "The state of the checks", model=Integrity, example=examples.INTEGRITY),
    ),
    problems=READ_PROBLEMS,
)

_LIST_FINDINGS: Final = Operation(
    operation_id="list_integrity_findings",
    method="GET",
    path="/v1/integrity/findings",
    tag=Tag.INTEGRITY,
    summary="List what is wrong with the books",
    description=(
        "Everything that a check has found since the books were begun, by check and subject, each "
        "once. A finding stays when it is mended: compare `last_found_at` with the last "
        "verification."
    ),
    scope=Scope.OPERATIONS_READ,
    parameters=(parameters.CURSOR, parameters.LIMIT),
    responses=(
        Response(
            200, "A page", model=IntegrityFindingPage, example=examples.INTEGRITY_FINDING_PAGE
        ),
    ),
    problems=LIST_PROBLEMS,
)

_REQUEST: Final = Operation(
    operation_id="request_verification",
    method="POST",
    path="/v1/integrity/verifications",
    tag=Tag.INTEGRITY,
    summary="Have the whole book verified",
    description=(
        "The reconciler that leads begins within seconds and proves what `ackledger verify` "
        "proves, beside all traffic; it reads everything, so it takes as long. One at a time: "
        "while one has not ended, it is the answer. `GET /v1/integrity` says how far it is. Takes "
        "no body."
    ),
    scope=Scope.OPERATIONS,
    responses=(
        Response(
            200,
            "One was asked for before and has not ended",
            model=Verification,
            example=examples.RUNNING_VERIFICATION,
        ),
        Response(
            202, "It is asked for", model=Verification, example=examples.REQUESTED_VERIFICATION
        ),
    ),
    problems=READ_PROBLEMS,
)

INTEGRITY_OPERATIONS: Final = (_READ, _LIST_FINDINGS, _REQUEST)
