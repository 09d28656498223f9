"""The calls on seals."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import LIST_PROBLEMS, READ_PROBLEMS, Operation, Response, Tag
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.seal import Seal, SealPage
from contracts.scopes import Scope

_READ_LATEST: Final = Operation(
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

_LIST: Final = Operation(
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

SEAL_OPERATIONS: Final = (_LIST, _READ_LATEST)
