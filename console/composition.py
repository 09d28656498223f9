"""The console's composition root: builds the pages, serves them."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from console.api import Api
from console.application import build_application
from console.figures import Figures
from console.session import Cookies, Sessions
from runtime.service.aiohttp_serving import MalformedRequests, listen
from runtime.service.lifecycle import Service, run_process
from runtime.service.settings import ConfigurationError, ConsoleSettings
from runtime.service.status_server import DependencyState, Readiness, StatusServer

KEY_OCTETS_MIN: Final = 32


class HttpServer:
    """Serves the pages; on a stop it lets the requests in hand finish."""

    def __init__(self, app: web.Application, settings: ConsoleSettings) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=settings.shutdown_timeout_s
        )
        self._settings = settings

    async def run(self) -> None:
        """Serve until cancelled."""
        MalformedRequests().install()
        await self._runner.setup()
        try:
            await listen(
                self._runner, host=self._settings.console_host, port=self._settings.console_port
            )
            await asyncio.Event().wait()
        finally:
            await self._runner.cleanup()


async def serve(settings: ConsoleSettings) -> None:
    """Show pages until a signal."""
    service = Service("console", shutdown_timeout_s=settings.shutdown_timeout_s)
    api = Api(settings.console_api_url)
    cookies = Cookies(is_secure=settings.console_is_https, key=_cookie_key(settings))
    sessions = Sessions(api, cookies)
    figures = Figures(settings.console_status_urls)
    service.add_loop("figures", figures)
    app = build_application(api, sessions, figures, trace_url=settings.console_trace_url)
    service.add_loop("http", HttpServer(app, settings))

    async def check_api() -> DependencyState:
        return DependencyState.of(is_up=await api.is_ready(), trouble="the API is not ready")

    readiness = Readiness({"api": check_api}, optional=("api",))
    service.add_loop(
        "status", StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    )
    service.add_close(api.close)
    await service.run()


def _cookie_key(settings: ConsoleSettings) -> bytes | None:
    """Return the cookies' key; raises ConfigurationError where its file is none."""
    if settings.console_key_file is None:
        return None
    try:
        content = settings.console_key_file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"ACKLEDGER_CONSOLE_KEY_FILE: {error.strerror}") from None
    if len(content) < KEY_OCTETS_MIN:
        raise ConfigurationError(
            f"ACKLEDGER_CONSOLE_KEY_FILE: has less than {KEY_OCTETS_MIN} octets; "
            "make it by: openssl rand -out FILE 32"
        )
    return hashlib.sha256(content).digest()


def run(environment: Mapping[str, str]) -> int:
    """Run as a process; return its exit code."""
    return run_process(ConsoleSettings, serve, name="console", environment=environment)
