"""`ackledger submit` and `ackledger show`: one transaction, over HTTP."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from cli.failures import UsageError
from cli.output import AsJson, console, print_json, print_table, printable, say

if TYPE_CHECKING:
    from ackledger.client.asynchronous import AsyncClient
    from ackledger.client.session import Answer

Url: TypeAlias = Annotated[
    str | None, typer.Option(help="The ingress; by default ACKLEDGER_URL, else the one run here.")
]
ApiKey: TypeAlias = Annotated[
    str | None, typer.Option(help="By default ACKLEDGER_API_KEY, else that of the one run here.")
]
Wait: TypeAlias = Annotated[
    int, typer.Option(min=0, max=30, help="Seconds to wait for the final state.")
]

_STYLES = {"COMPLETED": "bold green", "FAILED": "bold red", "REVERSED": "bold magenta"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("submit", short_help="Submit a transaction and show it.")(_submit)
    app.command("show", short_help="Show a transaction with its entries.")(_show)


def _submit(
    context: typer.Context,
    *,
    kind: Annotated[
        Literal["deposit", "withdrawal", "transfer"], typer.Option("--type", help="What to do.")
    ],
    amount: Annotated[str, typer.Option(help="In major units, such as 10.50.")],
    currency: Annotated[
        str, typer.Option(help="An ISO 4217 code, such as EUR, or a registered asset.")
    ],
    source: Annotated[str | None, typer.Option(help="The wallet that is debited.")] = None,
    destination: Annotated[str | None, typer.Option(help="The wallet that is credited.")] = None,
    key: Annotated[
        str | None, typer.Option(help="The idempotency key; a fresh one by default.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="Up to 500 characters.")] = None,
    wait: Wait = 10,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Submit a transaction and show it; exit 1 when it is refused.

    With the same --key it is safe to run again: the same transaction is shown.
    """
    from ackledger.client.requests import new_key
    from cli.reaching import client_of

    wanted = {
        "idempotency_key": key or new_key(),
        "type": kind,
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "amount": amount,
        "currency": currency,
        "description": description,
    }
    body = {name: value for name, value in wanted.items() if value is not None}
    client = client_of(context, url=url, api_key=api_key)
    if key is None:
        # Before it is sent: with it, a call that was cut off can be made again.
        say(f"idempotency key {wanted['idempotency_key']}")
    answer = _called(client, "POST", "/v1/transactions", body=body, wait_s=wait)
    _finish(answer, as_json=as_json)


def _show(
    context: typer.Context,
    *,
    transaction: Annotated[str, typer.Argument(metavar="ID|REFERENCE", help="Which one.")],
    wait: Wait = 0,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show a transaction with its entries, by its id or its reference (TXN-…)."""
    from cli.reaching import client_of

    path = f"/v1/transactions/{_id_of(transaction)}"
    client = client_of(context, url=url, api_key=api_key)
    _finish(_called(client, "GET", path, wait_s=wait), as_json=as_json, is_failed_fine=True)


def _called(
    client: "AsyncClient", method: str, path: str, *, wait_s: int, body: object = None
) -> "Answer":
    """Return the answer to one call, as it came: it is printed as it came, too."""
    import asyncio

    from ackledger.client.asynchronous import preference

    async def call() -> "Answer":
        async with client:
            return await client.call(method, path, body=body, headers=preference(wait_s))

    return asyncio.run(call())


def _id_of(text: str) -> str:
    from uuid import UUID

    from contracts.identifiers import id_of_reference

    try:
        return str(id_of_reference(text) if text.upper().startswith("TXN-") else UUID(text))
    except ValueError:
        raise UsageError(f"'{text}' is neither a transaction's id nor a reference") from None


def _finish(answer: "Answer", *, as_json: bool, is_failed_fine: bool = False) -> None:
    if as_json and isinstance(answer.body, dict):
        print_json(answer.body)
    answer.wanted()
    if not as_json:
        if answer.is_replay:
            say("this key was used before for the same transaction:")
        _print(answer.body)
    if answer.body["status"] == "FAILED" and not is_failed_fine:
        raise typer.Exit(code=1)


def _print(transaction: dict[str, Any]) -> None:
    out = console()
    out.print(f"{transaction['reference']}  ", style="bold", end="")
    status = transaction["status"]
    out.print(status, style=_STYLES.get(status, "bold yellow"))
    failure = transaction["failure"]
    if failure:
        out.print(f"  {failure['code']}: {failure['detail']}", style="red")
    for name, value in _facts(transaction).items():
        if value:
            out.print(f"  {name:<13}", style="dim", end="")
            out.print(printable(str(value)))
    for part, columns in _TABLES.items():
        if transaction[part]:
            out.print()
            rows = [[_cell(line[column]) for column in columns] for line in transaction[part]]
            print_table([column.replace("_", " ") for column in columns], rows)


_TABLES = {
    "legs": ("wallet_id", "amount", "currency"),
    "entries": ("wallet_id", "sequence", "amount", "balance_before", "balance_after"),
}
"""The lists in a transaction that are shown as tables, and their columns."""


def _cell(value: object) -> str:
    return "external" if value is None else str(value)


def _facts(transaction: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": transaction["id"],
        "what": _what(transaction),
        "from": transaction["source_wallet_id"],
        "to": transaction["destination_wallet_id"],
        "description": transaction["description"],
        "metadata": transaction["metadata"],
        "hold": _hold(transaction["hold"]),
        "of hold": transaction["hold_id"],
        "reverses": transaction["reverses"],
        "reversals": _reversals(transaction),
        "reversed by": transaction["reversed_by"],
        "execute at": transaction["execute_at"],
        "valid until": transaction["valid_until"],
        "atomic batch": transaction["batch_id"],
        "key": transaction["idempotency_key"],
        "submitter": f"{transaction['submitter']} over {transaction['channel']}",
        "created": transaction["created_at"],
        "completed": transaction["completed_at"],
    }


def _what(transaction: dict[str, Any]) -> str:
    if transaction["amount"] is None:
        return str(transaction["type"])
    return f"{transaction['type']} of {transaction['amount']} {transaction['currency']}"


def _hold(hold: dict[str, Any] | None) -> str | None:
    if hold is None:
        return None
    return (
        f"{hold['status']}, {hold['captured']} captured, {hold['remaining']} left, "
        f"expires {hold['expires_at']}"
    )


def _reversals(transaction: dict[str, Any]) -> str | None:
    if not transaction["reversals"]:
        return None
    ids = ", ".join(transaction["reversals"])
    amount = transaction["reversed_amount"]
    return ids if amount is None else f"{amount} by {ids}"
