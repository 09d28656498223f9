"""What the command line has to know to back a private PostgreSQL up."""

from tools.stack.postgres import PrivatePostgres
from tools.stack.stack import Stack


def backups_of(stack: Stack) -> dict[str, str]:
    """Return the variables; nothing where the server is not private."""
    postgres = stack.postgres
    if not isinstance(postgres, PrivatePostgres):
        return {}
    return {
        "ACKLEDGER_BACKUP_DATABASE_URL": postgres.superuser_url,
        "ACKLEDGER_BACKUP_DIRECTORY": str(postgres.home.parent.resolve() / "backups"),
        "ACKLEDGER_POSTGRES_PROGRAMS": str(postgres.programs_folder),
    }
