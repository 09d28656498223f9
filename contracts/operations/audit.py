"""The call on the audit log."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import LIST_PROBLEMS, Operation, Response, Tag
from contracts.representations import examples
from contracts.representations.audit import AuditPage
from contracts.scopes import Scope

_TEXT: Final = {"type": "string"}

_LIST: Final = Operation(
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

AUDIT_OPERATIONS: Final = (_LIST,)
