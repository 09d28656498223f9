"""The ingress's composition root: reads the environment, builds the services, serves."""

import asyncio
import os
import sys
from typing import NamedTuple, TypedDict

from aiohttp import web

from dead_letters.operations import DeadLetters
from ingress.authentication import ApiKeys
from ingress.calls import Services
from ingress.http.application import build_application
from ingress.http.batches import BatchCalls
from ingress.http.connection import HttpConnection
from ingress.http.dead_letters import DeadLetterCalls
from ingress.http.fast_path.connection import FastCalls, FastPath
from ingress.http.holds import HoldCalls
from ingress.http.middleware import Gate
from ingress.http.reviews import ReviewCalls
from ingress.http.seals import SealCalls
from ingress.http.transactions import TransactionCalls
from ingress.http.wallets import WalletCalls
from ingress.reads.holds import HoldStore
from ingress.reads.preview import Previewer
from ingress.reads.seals import SealStore
from ingress.reads.transactions import TransactionStore
from ingress.reads.wallets import WalletStore
from ingress.submit.admission import BacklogGauge, RateLimiter, check_redis, connect_redis
from ingress.submit.cancellation import Cancellations
from ingress.submit.completion import CompletionWatch
from ingress.submit.dispatcher import Dispatcher
from ingress.submit.recorder import Recorder
from runtime.amqp.publisher import Publisher
from runtime.postgres.assets import AssetWatch
from runtime.postgres.migrate import check_database
from runtime.postgres.partition_layout import PartitionLayoutCheck
from runtime.postgres.pool import KEYED_SESSION, Pool, create_pool
from runtime.service.fault_points import FaultPoints, fault_points_in
from runtime.service.lifecycle import Service, run_process
from runtime.service.settings import IngressSettings
from runtime.service.status_server import (
    Readiness,
    StatusServer,
    check_broker,
    listen_shared,
)
from screening.reviews import Reviews


class HttpServer:
    """Listens for clients; on a stop it lets the requests in hand finish."""

    def __init__(self, app: web.Application, calls: FastCalls, settings: IngressSettings) -> None:
        """`calls` are answered by the fast path, everything else by `app`."""
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=settings.shutdown_timeout_s
        )
        self._fast_path = FastPath(calls, fallback=self._aiohttp)
        self._settings = settings
        self._server: asyncio.Server | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
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

    def _aiohttp(self) -> asyncio.Protocol:
        """Return what serves a connection that leaves the fast path."""
        server = self._runner.server
        if server is None:
            raise AssertionError("the fast path is open only while the application is served")
        return HttpConnection(server)


class _Pools(NamedTuple):
    """Submissions have one of their own: what may wait long never holds a submission back."""

    submissions: Pool
    lists: Pool


class _Operators(TypedDict):
    """What the operators' calls work with."""

    pool: Pool
    publisher: Publisher
    partitions: int


async def serve(settings: IngressSettings) -> None:
    """Run the ingress until a signal."""
    pools = await _open_pools(settings)
    redis = connect_redis(settings.redis_url)
    publisher = Publisher(settings.amqp_url, name="ingress-publish")
    assets = AssetWatch(pools.submissions)
    readiness = Readiness(
        {
            "database": assets.checked(check_database(pools.submissions)),
            "broker": check_broker(lambda: publisher.is_up),
            "redis": check_redis(redis),
        },
        # Without the broker the reconciler finishes what was accepted; without Redis nobody is
        # limited.
        optional=("broker", "redis"),
    )
    service = Service("ingress", shutdown_timeout_s=settings.shutdown_timeout_s)
    service.add_loop("publisher", publisher)
    limiter = RateLimiter(redis, per_s=settings.rate_limit_per_s, burst=settings.rate_limit_burst)
    fault_points = fault_points_in(settings.fault_orders)
    dispatcher = Dispatcher(publisher, partitions=settings.partitions, fault_points=fault_points)
    service.add_loop("announcer", dispatcher)
    services = _services(service, settings, pools, dispatcher, fault_points)
    operators = _Operators(pool=pools.lists, publisher=publisher, partitions=settings.partitions)
    app = build_application(
        gate=Gate(keys=services.keys, limiter=limiter),
        holds=HoldCalls(HoldStore(pools.lists)),
        wallets=_wallet_calls(service, pools),
        transactions=TransactionCalls(services, cancellations=Cancellations(pools.lists)),
        batches=BatchCalls(services, previewer=Previewer(pools.lists)),
        seals=SealCalls(SealStore(pools.lists)),
        dead_letters=DeadLetterCalls(DeadLetters(**operators)),
        reviews=ReviewCalls(Reviews(**operators)),
        readiness=readiness,
    )
    calls = FastCalls(services, is_limited=settings.rate_limit_per_s > 0)
    server = HttpServer(app, calls, settings)
    service.add_loop("assets", assets)
    service.add_loop("http", assets.before(server))
    service.add_loop(
        "status", StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    )
    service.add_drain(services.completion.drain)
    service.add_drain(server.drain)
    service.add_drain(dispatcher.drain)
    service.add_close(pools.submissions.close)
    service.add_close(pools.lists.close)
    service.add_close(redis.aclose)
    await service.run()


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
    dispatcher: Dispatcher,
    fault_points: FaultPoints,
) -> Services:
    """Build what both HTTP paths work with, each with its loop."""
    services = Services(
        keys=ApiKeys(pools.submissions),
        recorder=Recorder(
            pool=pools.submissions,
            dispatcher=dispatcher,
            partitions=settings.partitions,
            group_size=settings.group_size,
            flushers=settings.group_flushers,
            confirm_timeout_s=settings.confirm_timeout_s,
            fault_points=fault_points,
        ),
        store=TransactionStore(pools.submissions, lists=pools.lists),
        completion=CompletionWatch(url=settings.database_url, pool=pools.submissions),
        backlog=BacklogGauge(pools.submissions, backlog_max=settings.backlog_max),
    )
    service.add_loop(
        "partition-layout", PartitionLayoutCheck(pools.submissions, settings.partitions)
    )
    service.add_loop("api-keys", services.keys)
    service.add_loop("acceptance", services.recorder)
    service.add_loop("reads", services.store)
    service.add_loop("finality", services.completion)
    service.add_loop("backlog", services.backlog)
    return services


def _wallet_calls(service: Service, pools: _Pools) -> WalletCalls:
    """Build the calls on wallets, with the loop that reads them."""
    store = WalletStore(pools.submissions, lists=pools.lists)
    service.add_loop("wallet-reads", store)
    return WalletCalls(store)


def main() -> int:
    """Run as a process; return its exit code."""
    return run_process(IngressSettings, serve, name="ingress", environment=os.environ)


if __name__ == "__main__":
    sys.exit(main())
