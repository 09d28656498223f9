"""The audit of a system that is up and has run the demonstration's scenario."""

from collections.abc import Sequence
from pathlib import Path

from ackledger.client.asynchronous import AsyncClient
from cli.actor import login_actor
from cli.dependencies import database_connection
from tools.audit.auditing import AuditReport, audit
from tools.audit.hard_cases import HardCases
from tools.audit.programs import Program
from tools.scenario.demonstration import Site


async def audit_demonstration(
    site: Site, programs: Sequence[Program], directory: Path
) -> AuditReport:
    """Add what is hard to write, then audit the whole book; its files stay in `directory`."""
    async with (
        database_connection(site.database, name="audit") as connection,
        database_connection(site.database, name="audit-balances") as beside,
        AsyncClient(site.http_url, site.api_key) as client,
    ):
        await HardCases(client, connection, actor=login_actor()).run()
        return await audit(connection, beside, programs, directory)
