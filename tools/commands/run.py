"""`ackledger run`: everything on this machine, until Ctrl-C."""

import shlex
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.invocation import invocation_of
from cli.output import console, say
from tools.commands.runs import needing_servers

if TYPE_CHECKING:
    from tools.running import Running

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(_run)


def _run(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the processes' logs here.")
    ] = False,
    ingresses: Annotated[
        int, typer.Option(min=1, max=64, help="Ingress processes that share the HTTP port.")
    ] = 1,
) -> None:
    """Start everything on this machine, until Ctrl-C.

    That is: private servers where no URL names one, and one of each process.
    Ctrl-C stops all that was started here, and nothing else.
    """
    began = time.monotonic()
    environment = dict(invocation_of(context).environment)
    if verbose and sys.stderr.isatty():
        environment.setdefault("ACKLEDGER_LOG_FORMAT", "console")
    _leave_on_signals()
    try:
        with needing_servers():
            from tools.running import everything

            with everything(
                environment, say=say, ingresses=ingresses, is_verbose=verbose
            ) as running:
                _print(running, took_s=time.monotonic() - began)
                threading.Event().wait()
    except KeyboardInterrupt:
        say("all is stopped")


def _leave_on_signals() -> None:
    """The first signal ends the run; from then on signals change nothing, for the end is bounded.

    The handlers are exchanged inside the first signal's, so no second one can cut the end short.
    """

    def leave(_: int, __: FrameType | None) -> NoReturn:
        for number in _ENDING:
            signal.signal(number, _still_stopping)
        say("stopping: the processes, then the servers …")
        raise KeyboardInterrupt

    for number in _ENDING:
        signal.signal(number, leave)


def _still_stopping(_: int, __: FrameType | None) -> None:
    say("still stopping; nothing is left behind")


def _print(running: "Running", *, took_s: float) -> None:
    system = running.system
    lines = {
        "HTTP": system.http_url,
        "API page": f"{system.http_url}/docs",
        "Console": system.console_url,
        "Console login": _login_of(running),
        "API key": f"{system.api_key}  (client demo, every scope)",
        "AMQP upstream": running.upstream_amqp_url or "ask the broker's keeper for a user",
        "RabbitMQ page": running.stack.rabbitmq.management_url,
        **{f"status {name}": f"{url}/readyz" for name, url in system.status_urls.items()},
    }
    out = console()
    out.print()
    out.print(f"Ackledger is ready after {took_s:.1f} s", style="bold green")
    for name, value in lines.items():
        if value:
            out.print(f"  {name:<18}", style="dim", end="")
            out.print(value)
    out.print()
    out.print("A first wallet, to paste into another terminal:", style="dim")
    out.print()
    print(f"{curl_line(http_url=system.http_url, api_key=system.api_key)}\n", flush=True)
    out.print("Ctrl-C stops all of it.", style="dim")
    sys.stdout.flush()


def _login_of(running: "Running") -> str | None:
    from tools.running import CONSOLE_EMAIL

    password = running.console_password
    return None if password is None else f"{CONSOLE_EMAIL}  {password}"


def curl_line(*, http_url: str, api_key: str) -> str:
    """Return one shell line that makes a wallet; pasted again, it shows the same wallet."""
    words = [
        *("curl", "-sS", "-X", "POST", f"{http_url}/v1/wallets"),
        *("-H", f"Authorization: Bearer {api_key}"),
        *("-H", "Content-Type: application/json"),
        *("-H", "Idempotency-Key: my-first-wallet"),
        *("-d", '{"currency": "EUR"}'),
    ]
    return shlex.join(words)
