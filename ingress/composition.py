"""The ingress's composition root: builds the services, serves."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from aiohttp import web
from redis.asyncio import Redis

from contracts.scopes import EVENTS_SCOPE
from dead_letters.operations import DeadLetters
from ingress.access import Guard
from ingress.authentication import ApiKeys, Authenticator, Lookups, NoTokens
from ingress.calls import Services
from ingress.events.log import EventLog
from ingress.http.addresses import ClientAddresses
from ingress.http.application import build_application
from ingress.http.batches import BatchCalls
from ingress.http.connection import HttpConnection
from ingress.http.dead_letters import DeadLetterCalls
from ingress.http.events import AccessWatch, EventCalls
from ingress.http.fast_path.connection import FastCalls, FastPath
from ingress.http.middleware import Gate
from ingress.http.people import SignInCalls, UserCalls
from ingress.http.reviews import ReviewCalls
from ingress.http.traces import RequestTraces
from ingress.http.trail import AuditCalls, IntegrityCalls, SealCalls
from ingress.http.transactions import TransactionCalls
from ingress.http.wallets import HoldCalls, WalletCalls
from ingress.http.webhooks import WebhookCalls
from ingress.limits.limiter import (
    SIGN_IN_TIMEOUT_S,
    LimitRules,
    RateLimiter,
    check_redis,
    connect_redis,
)
from ingress.limits.login_guard import LoginGuard, Slowing
from ingress.people.accounts import AccountStore
from ingress.people.passwords import Passwords
from ingress.people.profiles import ProfileStore
from ingress.people.sessions import SessionStore
from ingress.reads.preview import Previewer
from ingress.reads.trail import AuditStore, IntegrityStore, SealStore
from ingress.reads.transactions import TransactionStore
from ingress.reads.wallets import HoldStore, WalletStore
from ingress.submit.admission import BacklogGauge
from ingress.submit.cancellation import Cancellations
from ingress.submit.completion import CompletionWatch
from ingress.submit.recorder import Dispatcher, Recorder
from ingress.submit.traces import SubmissionTraces
from ingress.webhooks import WebhookStore
from runtime.access.wallets import WalletHolders
from runtime.amqp.publisher import Publisher
from runtime.postgres.assets import AssetWatch
from runtime.postgres.migrate import check_database
from runtime.postgres.partition_layout import PartitionLayoutCheck
from runtime.postgres.pool import KEYED_SESSION, Pool, create_pool
from runtime.screening.reviews import Reviews
from runtime.service.aiohttp_serving import MalformedRequests
from runtime.service.fault_points import FaultPoints, fault_points_in
from runtime.service.key_directory import SigningKeyError
from runtime.service.lifecycle import Service, run_process
from runtime.service.settings import ConfigurationError, IngressSettings
from runtime.service.status_server import (
    Check,
    Readiness,
    StatusServer,
    check_broker,
    listen_shared,
)
from runtime.tracing.spans import Tracer, server_of, tracer_of

if TYPE_CHECKING:
    from ingress.people.access_tokens import TokenSigner
    from ingress.people.token_keys import TokenKeys


class HttpServer:
    """Listens for clients; on a stop it lets the requests in hand finish."""

    def __init__(
        self,
        app: web.Application,
        services: Services,
        settings: IngressSettings,
        *,
        traces: RequestTraces,
    ) -> None:
        """The fast path answers what it can by the services, `app` everything else."""
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=settings.shutdown_timeout_s
        )
        self._fast_path = FastPath(
            FastCalls(
                services,
                is_open=settings.fast_path,
                is_cross_origin=bool(settings.cors_origins),
                traces=traces,
            ),
            fallback=self._aiohttp,
            idle_s=settings.http_idle_s,
            connections_max=settings.http_connections_max,
        )
        self._settings = settings
        self._server: asyncio.Server | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
        MalformedRequests().install()
        await self._runner.setup()
        try:
            # Several ingress processes may share one port: the kernel spreads the connections.
            self._server = await listen_shared(
                self._fast_path, host=self._settings.http_host, port=self._settings.http_port
            )
            await self._fast_path.run()
        finally:
            self._listen_no_more()
            await self._runner.cleanup()

    async def drain(self) -> None:
        """Take no more connections, and return when the requests in hand are answered."""
        self._listen_no_more()
        await self._fast_path.drain()
        await self._runner.cleanup()

    def _listen_no_more(self) -> None:
        if self._server is not None:
            self._server.close()

    def _aiohttp(self) -> HttpConnection:
        """Return what serves a connection that leaves the fast path."""
        server = self._runner.server
        if server is None:
            raise AssertionError("the fast path is open only while the application is served")
        return HttpConnection(server)


class _Pools(NamedTuple):
    """Submissions have one of their own: what may wait long never holds a submission back."""

    submissions: Pool
    lists: Pool


class _People(NamedTuple):
    """What finds out who calls, and the calls on accounts."""

    callers: Authenticator
    sign_in: SignInCalls
    users: UserCalls


class _Tokens(NamedTuple):
    """What believes access tokens, and where they are issued, what does that."""

    lookups: Lookups
    signer: "TokenSigner | None" = None
    keys: "TokenKeys | None" = None


class _Limits(NamedTuple):
    """What counts the requests of callers, those of nobody, and attempts to log in."""

    callers: RateLimiter
    visitors: RateLimiter
    logins: LoginGuard


class _Operators(TypedDict):
    """What the operators' calls work with."""

    pool: Pool
    publisher: Publisher
    partitions: int


class _RecordCalls(TypedDict):
    """The calls on what is written down beside the money."""

    seals: SealCalls
    integrity: IntegrityCalls
    audit: AuditCalls


async def serve(settings: IngressSettings) -> None:
    """Run the ingress until a signal."""
    pools = await _open_pools(settings)
    redis = connect_redis(settings.redis_url)
    service = Service("ingress", shutdown_timeout_s=settings.shutdown_timeout_s)
    assets = _assets(service, pools)
    publisher = _publisher(service, settings)
    readiness = _readiness(assets.checked(check_database(pools.submissions)), publisher, redis)
    limits = _limits(service, settings, redis)
    tracer = tracer_of(settings, service="ingress")
    traces = RequestTraces(tracer)
    fault_points = fault_points_in(settings.fault_orders)
    dispatcher = Dispatcher(publisher, partitions=settings.partitions, fault_points=fault_points)
    people = _people(service, settings, pools, limits.logins)
    services = _services(
        service,
        settings,
        pools,
        people.callers,
        limiter=limits.callers,
        dispatcher=dispatcher,
        fault_points=fault_points,
        tracer=tracer,
    )
    operators = _Operators(pool=pools.lists, publisher=publisher, partitions=settings.partitions)
    app = build_application(
        gate=_gate(settings, people.callers, limits, traces),
        holds=HoldCalls(HoldStore(pools.lists), guard=services.guard),
        wallets=WalletCalls(services, per_customer_max=settings.wallets_per_owner_and_currency),
        transactions=TransactionCalls(services, cancellations=Cancellations(pools.lists)),
        batches=BatchCalls(services, previewer=Previewer(pools.lists)),
        events=_event_calls(service, settings, pools, services),
        webhooks=_webhook_calls(settings, pools, services.guard),
        **_record_calls(pools.lists),
        dead_letters=DeadLetterCalls(DeadLetters(**operators)),
        reviews=ReviewCalls(Reviews(**operators)),
        sign_in=people.sign_in,
        users=people.users,
        readiness=readiness,
        cors_origins=settings.cors_origins,
    )
    server = HttpServer(app, services, settings, traces=traces)
    service.add_loop("http", assets.before(server))
    _serve_status(service, settings, readiness)
    for drain in (services.completion.drain, server.drain, dispatcher.drain):
        service.add_drain(drain)
    for close in (tracer.close, pools.submissions.close, pools.lists.close, redis.aclose):
        service.add_close(close)
    await service.run()


def _record_calls(lists: Pool) -> _RecordCalls:
    return _RecordCalls(
        seals=SealCalls(SealStore(lists)),
        integrity=IntegrityCalls(IntegrityStore(lists)),
        audit=AuditCalls(AuditStore(lists)),
    )


def _assets(service: Service, pools: _Pools) -> AssetWatch:
    assets = AssetWatch(pools.submissions)
    service.add_loop("assets", assets)
    return assets


def _serve_status(service: Service, settings: IngressSettings, readiness: Readiness) -> None:
    status = StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    service.add_loop("status", status)


def _publisher(service: Service, settings: IngressSettings) -> Publisher:
    publisher = Publisher(settings.amqp_url, name="ingress-publish")
    service.add_loop("publisher", publisher)
    return publisher


def _webhook_calls(settings: IngressSettings, pools: _Pools, guard: Guard) -> WebhookCalls:
    store = WebhookStore(pools.lists)
    return WebhookCalls(store, guard=guard, targets=settings.webhook_targets)


def _event_calls(
    service: Service, settings: IngressSettings, pools: _Pools, services: Services
) -> EventCalls:
    """Build the call that follows events, with the log that it reads."""
    event_log = EventLog(
        settings.amqp_url,
        WalletHolders(pools.lists),
        is_kept=settings.events_log,
        followers_max=settings.events_readers_max,
    )
    service.add_loop("events", event_log)
    # Before the server's: it waits for answers to end, and these end by themselves never.
    service.add_drain(event_log.drain)
    access = AccessWatch(services.callers, scope=EVENTS_SCOPE)
    service.add_loop("events-access", access)
    return EventCalls(event_log, services, access=access, heartbeat_s=settings.events_heartbeat_s)


def _readiness(database: Check, publisher: Publisher, redis: Redis) -> Readiness:
    checks = {
        "database": database,
        "broker": check_broker(lambda: publisher.is_up),
        "redis": check_redis(redis),
    }
    # Without the broker the reconciler finishes what was accepted; without Redis each process
    # counts by itself, and nobody logs in.
    return Readiness(checks, optional=("broker", "redis"))


def _gate(
    settings: IngressSettings, callers: Authenticator, limits: _Limits, traces: RequestTraces
) -> Gate:
    return Gate(
        callers,
        limits.callers,
        visitors=limits.visitors,
        addresses=ClientAddresses(settings.trusted_proxies),
        traces=traces,
    )


def _limits(service: Service, settings: IngressSettings, redis: Redis) -> _Limits:
    """Build what counts, each with its loop; raises ConfigurationError for two limits of one."""
    try:
        limits = settings.rate_limits.with_system(
            per_s=settings.rate_limit_per_s, burst=settings.rate_limit_burst
        )
    except ValueError as error:
        raise ConfigurationError(f"ACKLEDGER_RATE_LIMITS: {error}") from None
    rules = LimitRules(limits, settings.rate_limit_clients)
    patient = connect_redis(settings.redis_url, timeout_s=SIGN_IN_TIMEOUT_S)
    slowing = Slowing(
        account_free=settings.login_free_attempts,
        address_free=settings.login_free_attempts_per_address,
    )
    made = _Limits(
        RateLimiter(redis, rules), RateLimiter(patient, rules), LoginGuard(patient, slowing)
    )
    service.add_loop("rate-limits", made.callers)
    service.add_loop("visitors", made.visitors)
    service.add_loop("login-guard", made.logins)
    service.add_close(patient.aclose)
    return made


async def _open_pools(settings: IngressSettings) -> _Pools:
    async def opened(name: str, *, size: int) -> Pool:
        pool = create_pool(
            settings.database_url,
            name=name,
            size=size,
            statement_timeout_s=settings.database_statement_timeout_s,
            session=KEYED_SESSION,
        )
        await pool
        return pool

    return _Pools(
        submissions=await opened("ingress", size=settings.ingress_database_connections),
        lists=await opened("ingress-lists", size=settings.ingress_list_connections),
    )


def _services(
    service: Service,
    settings: IngressSettings,
    pools: _Pools,
    callers: Authenticator,
    *,
    limiter: RateLimiter,
    dispatcher: Dispatcher,
    fault_points: FaultPoints | None,
    tracer: Tracer,
) -> Services:
    """Build what both HTTP paths work with, each with its loop."""
    services = Services(
        callers=callers,
        guard=Guard(pools.submissions, may_customers_deposit=settings.customer_deposits),
        recorder=Recorder(
            pool=pools.submissions,
            dispatcher=dispatcher,
            partitions=settings.partitions,
            group_size=settings.group_size,
            flushers=settings.group_flushers,
            confirm_timeout_s=settings.confirm_timeout_s,
            fault_points=fault_points,
            traces=SubmissionTraces(
                tracer,
                database=server_of(settings.database_url),
                broker=server_of(settings.amqp_url),
            ),
        ),
        store=TransactionStore(pools.submissions, lists=pools.lists),
        wallets=WalletStore(pools.submissions, lists=pools.lists),
        completion=CompletionWatch(url=settings.database_url, pool=pools.submissions),
        backlog=BacklogGauge(pools.submissions, backlog_max=settings.backlog_max),
        limiter=limiter,
    )
    service.add_loop("announcer", dispatcher)
    service.add_loop(
        "partition-layout", PartitionLayoutCheck(pools.submissions, settings.partitions)
    )
    service.add_loop("callers", callers)
    service.add_loop("access", services.guard)
    service.add_loop("acceptance", services.recorder)
    service.add_loop("reads", services.store)
    service.add_loop("wallet-reads", services.wallets)
    service.add_loop("finality", services.completion)
    service.add_loop("backlog", services.backlog)
    return services


def _tokens(settings: IngressSettings, pools: _Pools) -> _Tokens:
    if settings.token_keys is None and not settings.token_issuers:
        return _Tokens(NoTokens())
    # With what verifies signatures: 25 ms that an ingress without tokens does not spend.
    from ingress.people.access_tokens import (  # noqa: PLC0415
        AccessTokens,
        TokenNames,
        TokenSigner,
    )
    from ingress.people.issuers import Issuers  # noqa: PLC0415

    keys = None if settings.token_keys is None else _token_keys(settings.token_keys)
    names = TokenNames(issuer=settings.token_issuer, audience=settings.token_audience)
    return _Tokens(
        AccessTokens(pools.submissions, names, keys=keys, issuers=Issuers(settings.token_issuers)),
        None if keys is None else TokenSigner(keys, names, valid_s=settings.access_token_s),
        keys,
    )


def _token_keys(directory: Path) -> "TokenKeys":
    """Return the keys; raises ConfigurationError where the directory has none that can be used."""
    from ingress.people.token_keys import TokenKeys  # noqa: PLC0415  # as above

    keys = TokenKeys(directory)
    try:
        keys.signer()
        keys.listed()
    except SigningKeyError as error:
        raise ConfigurationError(f"ACKLEDGER_TOKEN_KEYS: {error}") from None
    return keys


def _people(
    service: Service, settings: IngressSettings, pools: _Pools, guard: LoginGuard
) -> _People:
    """Build what lets people in, with the loop that forgets what was over long ago."""
    tokens = _tokens(settings, pools)
    passwords = Passwords(
        at_once=settings.password_hashes_at_once,
        waiting_max=settings.password_hashes_waiting_max,
    )
    accounts = AccountStore(pools.lists, first_wallet_currency=settings.first_wallet_currency)
    sessions = SessionStore(pools.lists, passwords, session_s=settings.session_s)
    service.add_loop("sessions", sessions)
    service.add_close(passwords.close)
    return _People(
        callers=Authenticator(
            keys=ApiKeys(pools.submissions),
            tokens=tokens.lookups,
        ),
        sign_in=SignInCalls(
            accounts=accounts,
            sessions=sessions,
            passwords=passwords,
            guard=guard,
            signer=tokens.signer,
            keys=tokens.keys,
        ),
        users=UserCalls(
            accounts=accounts,
            profiles=ProfileStore(pools.lists, accounts),
            sessions=sessions,
            passwords=passwords,
            guard=guard,
        ),
    )


def run(environment: Mapping[str, str]) -> int:
    """Run as a process; return its exit code."""
    return run_process(IngressSettings, serve, name="ingress", environment=environment)
