"""The calls on the trail: seals, what checks have found, and the audit log."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import LIST_PROBLEMS, READ_PROBLEMS, Operation, Response, Tag
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.trail import (
    AuditPage,
    Integrity,
    IntegrityFindingPage,
    Seal,
    SealPage,
    Verification,
)
from contracts.scopes import Scope

_READ_LATEST_SEAL: Final = Operation(
    operation_id="read_latest_seal",
    method="GET",
    path="/v1/seals/latest",
    tag=Tag.SEALS,
    summary="Read the latest seal",
    description=(
        "The end of the hash chain over all transactions that ended, completed and failed. Keep "
        "its `number` and `digest` where nobody who can write this database can: whatever was "
        "sealed by then can neither be changed nor cut off unnoticed any more."
    ),
    scope=Scope.TRANSACTIONS_READ,
    or_scope=Scope.OPERATIONS_READ,
    responses=(Response(200, "The seal", model=Seal, example=examples.SEAL),),
    problems=(ProblemCode.SEAL_NOT_FOUND, *READ_PROBLEMS),
)

_LIST_SEALS: Final = Operation(
    operation_id="list_seals",
    method="GET",
    path="/v1/seals",
    tag=Tag.SEALS,
    summary="List seals",
    description="The newest first, without gaps down to number 1.",
    scope=Scope.TRANSACTIONS_READ,
    or_scope=Scope.OPERATIONS_READ,
    parameters=(parameters.CURSOR, parameters.LIMIT),
    responses=(Response(200, "A page", model=SealPage, example=examples.SEAL_PAGE),),
    problems=LIST_PROBLEMS,
)

SEAL_OPERATIONS: Final = (_LIST_SEALS, _READ_LATEST_SEAL)


_READ_INTEGRITY: Final = Operation(
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

_REQUEST_VERIFICATION: Final = Operation(
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

INTEGRITY_OPERATIONS: Final = (_READ_INTEGRITY, _LIST_FINDINGS, _REQUEST_VERIFICATION)


_TEXT: Final = {"type": "string"}

_LIST_RECORDS: Final = Operation(
    operation_id="list_audit_records",
    method="GET",
    path="/v1/audit",
    tag=Tag.AUDIT,
    summary="List the audit log",
    description=(
        "Every administrative and security act, the newest first. Records are never changed or "
        "removed: the chain of seals covers them. Filters are exact."
    ),
    scope=Scope.AUDIT_READ,
    parameters=(
        parameters.query("actor", "Only what this one did.", _TEXT, "cli:ann"),
        parameters.query("action", "Only this action.", _TEXT, "wallet.changed"),
        parameters.query("subject", "Only what was done to this.", _TEXT, "client:shop"),
        parameters.FROM,
        parameters.TO,
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=AuditPage, example=examples.AUDIT_PAGE),),
    problems=LIST_PROBLEMS,
)

AUDIT_OPERATIONS: Final = (_LIST_RECORDS,)
