"""`ackledger reconcile`: one pass of the reconciler, by hand."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import UsageError
from cli.invocation import settings_of
from cli.output import AsJson, print_json, print_line, quiet_logs

if TYPE_CHECKING:
    from reconciler.schedule import ReconcileCounts
    from runtime.service.settings import ReconcilerSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reconcile", short_help="Make one pass of the reconciler.")(_reconcile)


def _reconcile(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Make one pass and end.")] = False,
    older_than_s: Annotated[
        float | None,
        typer.Option(min=0, help="Instead of ACKLEDGER_STALE_AFTER_S; 0 takes all that waits."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Announce to the processor again what is PENDING for too long, and end what has expired.

    Safe beside any reconciler.
    """
    import asyncio
    from dataclasses import asdict

    from runtime.service.settings import ReconcilerSettings

    if not once:
        raise UsageError("give --once; for good it runs as: ackledger serve reconciler")
    counts = asyncio.run(_pass(settings_of(context, ReconcilerSettings), older_than_s))
    if as_json:
        print_json(asdict(counts))
        return
    print_line(
        f"{counts.swept} transactions looked at, {counts.stale} of them stale; "
        f"{counts.republished} announced again, {counts.ended} had ended, "
        f"{counts.expired} expired, {counts.waiting} wait"
    )
    if counts.is_paused:
        print_line("nothing was announced: the queues are deep enough as they are")


async def _pass(settings: "ReconcilerSettings", older_than_s: float | None) -> "ReconcileCounts":
    from cli.actor import login_actor
    from cli.dependencies import database_connection, database_failures, unreachable
    from reconciler.composition import reconcile_once
    from runtime.postgres.audit import Trail, note_act

    quiet_logs()
    async with database_connection(settings, name="reconcile") as connection:
        await note_act(
            connection,
            Trail(login_actor()),
            action="reconciler.pass_requested",
            subject="reconciler",
            detail={"older_than_s": older_than_s},
        )
    try:
        with database_failures(settings):
            return await reconcile_once(settings, older_than_s=older_than_s)
    except (TimeoutError, ConnectionError) as error:
        raise unreachable("RabbitMQ", settings.amqp_url, error) from error
