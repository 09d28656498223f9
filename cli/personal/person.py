"""Finding the person whom an operator names."""

from uuid import UUID

from cli.dependencies import Connection
from cli.failures import RefusedError
from runtime.postgres.queries import load_queries


async def find_person(connection: Connection, id_or_email: str) -> UUID:
    """Return the id of an account; raises RefusedError where nobody has it.

    An address finds only whoever uses it now; deleted accounts are found by their id.
    """
    found: UUID | None = await connection.fetchval(
        load_queries("cli.personal")["find_person"], _id_of(id_or_email), id_or_email.lower()
    )
    if found is None:
        raise RefusedError(f"no account has the id or the address '{id_or_email}'")
    return found


def _id_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
