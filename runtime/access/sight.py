"""What results show an upstream system: of others' wallets no balance."""

from collections.abc import Collection, Sequence
from uuid import UUID

from contracts.representations.transaction import Json, Row, render_transaction, shown_to
from contracts.requests.parties import wallets_of_row
from contracts.scopes import Reach
from runtime.access.clients import UpstreamClients
from runtime.access.wallets import Holder, Question, WalletAccess
from runtime.postgres.pool import Connection


class UpstreamSight:
    """Looks up which wallets of transactions are their submitter's."""

    def __init__(self) -> None:
        self._clients = UpstreamClients()
        self._access = WalletAccess()

    async def theirs(
        self, connection: Connection, submitter: str, rows: Sequence[Row]
    ) -> Collection[UUID] | None:
        """Return those wallets of rows of `transaction_views`; None for one that reaches all."""
        clients = await self._clients.restricted(connection, [submitter])
        if submitter not in clients or clients[submitter].reach is Reach.ALL:
            return None
        ids = {one for row in rows for one in wallets_of_row(row)}
        questions = [Question(Holder(submitter), one) for one in ids]
        answers = await self._access.answers(connection, questions)
        return {one.wallet_id for one, answer in zip(questions, answers, strict=True) if answer}


def rendered_for(row: Row, submitter: str, theirs: Collection[UUID] | None) -> Json:
    """Return a row as its submitter sees it; `theirs` as `UpstreamSight` has it."""
    view = render_transaction(row)
    if theirs is None:
        return view
    return shown_to(view, name=submitter, theirs={str(one) for one in theirs})
