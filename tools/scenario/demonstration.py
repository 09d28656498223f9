"""The demonstration on a system that is up: drive, drain, verify, compare."""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from rich.progress import Progress, TaskID
from yarl import URL

from ackledger.client.asynchronous import AsyncClient
from ackledger.client.publishing import AsyncPublisher, quiet_libraries
from cli.actor import login_actor
from cli.api_keys import ensure_api_key
from cli.clients.addresses import Addresses
from cli.clients.errors import first_cause
from cli.dependencies import Connection, database_connection
from cli.replay.options import ReplayOptions
from cli.replay.session import run_replay
from cli.replay.tally import Tally
from runtime.service.settings import DatabaseSettings
from tools.scenario.driving import Driver, Observation, Show
from tools.scenario.model import Expectation, expectation_of
from tools.scenario.plan import make_plan
from tools.scenario.steps import Door
from verification.checks import VerificationReport
from verification.verify import verify

_CONNECTIONS = 16
# Nothing of a demonstration stays PENDING for long: it was waited for.
_PENDING_MAX_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The system that is up: its doors and its database."""

    http_url: str
    api_key: str
    upstream_amqp_url: str
    database: DatabaseSettings


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """What a scenario had to come to, what it came to, and the proof of the books."""

    expected: Expectation
    seen: Observation
    report: VerificationReport


@dataclass(frozen=True, slots=True)
class FileResult:
    """A file through HTTP, then through AMQP, and the proof of the books."""

    over_http: Tally = field(default_factory=Tally)
    over_amqp: Tally = field(default_factory=Tally)
    reports: list[VerificationReport] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether every row arrived, the second time changed nothing, and the books balance."""
        first, second = self.over_http, self.over_amqp
        is_replayed = (second.new, second.replays) == (0, first.answered)
        return (
            first.is_well(allow_refusals=True)
            and second.is_well(allow_refusals=True)
            and is_replayed
            and all(report.clean for report in self.reports)
        )


async def run_scenario(
    site: Site, *, seed: int, transactions: int, progress: Progress
) -> ScenarioResult:
    """Run the scenario of a seed; every run of it has keys and wallets of its own."""
    quiet_libraries()
    key_prefix = f"scenario-{uuid4().hex[:12]}-"
    plan = make_plan(seed=seed, transactions=transactions, key_prefix=key_prefix)
    expected = expectation_of(plan)
    try:
        async with (
            database_connection(site.database, name="demo") as connection,
            AsyncClient(
                site.http_url, await _key(site, connection), connections=_CONNECTIONS
            ) as client,
            AsyncPublisher(site.upstream_amqp_url) as publisher,
        ):
            driver = Driver(
                plan=plan,
                expected=expected,
                client=client,
                publisher=publisher,
                connection=connection,
                key_prefix=key_prefix,
                show=_bars(progress),
            )
            seen = await driver.run()
            report = await _verified(connection, progress)
    except BaseExceptionGroup as group:
        raise first_cause(group) from None
    return ScenarioResult(expected, seen, report)


async def run_file(site: Site, options: Callable[[Door, Addresses], ReplayOptions]) -> FileResult:
    """Replay a file over HTTP, then the same again over AMQP, which must change nothing."""
    result = FileResult()
    async with database_connection(site.database, name="demo") as connection:
        addresses = Addresses(
            http_url=site.http_url,
            api_key=await _key(site, connection),
            upstream_amqp_url=site.upstream_amqp_url,
        )
        await run_replay(options("http", addresses), result.over_http)
        await run_replay(options("amqp", addresses), result.over_amqp)
        result.reports.append(await verify(connection, pending_max_s=_PENDING_MAX_S))
    return result


async def _key(site: Site, connection: Connection) -> str:
    """A key of the client with the upstream user's name: so both doors are one submitter."""
    return await ensure_api_key(
        connection,
        client=URL(site.upstream_amqp_url).user or "guest",
        known=site.api_key,
        actor=login_actor(),
    )


async def _verified(connection: Connection, progress: Progress) -> VerificationReport:
    show = _bars(progress)
    return await verify(
        connection,
        pending_max_s=_PENDING_MAX_S,
        progress=lambda done, total: show("verifying", done, total),
    )


def _bars(progress: Progress) -> Show:
    """Return what shows a bar for each kind of work, and a new one when a full one begins again."""
    bars: dict[str, tuple[TaskID, int]] = {}

    def show(what: str, done: int, total: int) -> None:
        bar, before = bars.get(what, (None, 0))
        if bar is None or done < before:
            bar = progress.add_task(what, total=total, count=0)
        bars[what] = (bar, done)
        progress.update(bar, completed=done, total=total, count=done)

    return show
