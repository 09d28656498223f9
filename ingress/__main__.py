"""The ingress's composition root: reads the environment, builds the parts, serves."""

import asyncio
import os
import sys

from aiohttp import web

from ingress.acceptance import Acceptance
from ingress.access import ApiKeys
from ingress.announcing import Announcer
from ingress.application import build_application
from ingress.backlog import BacklogGauge
from ingress.dead_letters import DeadLetterCalls
from ingress.endpoints import Gate
from ingress.finality import FinalityWatch
from ingress.rate_limit import RateLimiter, check_redis, connect_redis
from ingress.transaction_store import TransactionStore
from ingress.transactions import TransactionCalls
from ingress.wallet_store import WalletStore
from ingress.wallets import WalletCalls
from runtime.database import KEYED_SESSION, Pool, create_pool
from runtime.dead_letters.operations import DeadLetters
from runtime.fault_points import FaultPoints, fault_points_in
from runtime.health import check_broker, check_database
from runtime.lifecycle import Service, run_process
from runtime.listening import listen
from runtime.publisher import Publisher
from runtime.settings import IngressSettings
from runtime.status import Readiness, StatusServer


class HttpServer:
    """Listens for clients; on a stop it lets the requests in hand finish."""

    def __init__(self, app: web.Application, settings: IngressSettings) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=settings.shutdown_timeout_s
        )
        self._settings = settings

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._runner.setup()
        try:
            # Several ingress processes may share one port: the kernel spreads the connections.
            await listen(
                self._runner,
                host=self._settings.http_host,
                port=self._settings.http_port,
                is_shared=True,
            )
            await asyncio.Event().wait()
        finally:
            await self._runner.cleanup()

    async def drain(self) -> None:
        """Take no more connections, and return when the requests in hand are answered."""
        await self._runner.cleanup()


async def serve(settings: IngressSettings) -> None:
    """Run the ingress until a signal."""
    pool = create_pool(
        settings.database_url,
        name="ingress",
        size=settings.ingress_database_connections,
        statement_timeout_s=settings.database_statement_timeout_s,
        session=KEYED_SESSION,
    )
    await pool
    redis = connect_redis(settings.redis_url)
    publisher = Publisher(settings.amqp_url, name="ingress-publish")
    readiness = Readiness(
        {
            "database": check_database(pool),
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
    keys = ApiKeys(pool)
    service.add_loop("api-keys", keys)
    fault_points = fault_points_in(settings.fault_orders)
    announcer = Announcer(publisher, partitions=settings.partitions, fault_points=fault_points)
    service.add_loop("announcer", announcer)
    app = build_application(
        gate=Gate(keys=keys, limiter=limiter),
        wallets=WalletCalls(WalletStore(pool)),
        transactions=_transaction_calls(service, settings, pool, announcer, fault_points),
        dead_letters=DeadLetterCalls(
            DeadLetters(pool=pool, publisher=publisher, partitions=settings.partitions)
        ),
        readiness=readiness,
    )
    server = HttpServer(app, settings)
    service.add_loop("http", server)
    service.add_loop(
        "status", StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    )
    service.add_drain(server.drain)
    service.add_drain(announcer.drain)
    service.add_close(pool.close)
    service.add_close(redis.aclose)
    await service.run()


def _transaction_calls(
    service: Service,
    settings: IngressSettings,
    pool: Pool,
    announcer: Announcer,
    fault_points: FaultPoints,
) -> TransactionCalls:
    acceptance = Acceptance(
        pool=pool,
        announcer=announcer,
        partitions=settings.partitions,
        group_size=settings.group_size,
        flushers=settings.group_flushers,
        confirm_timeout_s=settings.confirm_timeout_s,
        fault_points=fault_points,
    )
    store = TransactionStore(pool)
    finality = FinalityWatch(url=settings.database_url, pool=pool)
    backlog = BacklogGauge(pool, backlog_max=settings.backlog_max)
    service.add_loop("acceptance", acceptance)
    service.add_loop("reads", store)
    service.add_loop("finality", finality)
    service.add_loop("backlog", backlog)
    return TransactionCalls(acceptance=acceptance, store=store, finality=finality, backlog=backlog)


def main() -> int:
    """Run as a process; return its exit code."""
    return run_process(IngressSettings, serve, name="ingress", environment=os.environ)


if __name__ == "__main__":
    sys.exit(main())
