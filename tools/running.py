"""Everything on one machine: servers (private or given), then our processes; for run and demo."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from cli.actor import login_actor
from cli.dependencies import database_connection
from cli.failures import CommandError, RefusedError, UnreachableError, UsageError
from cli.running_state import RunningState
from cli.users import ensure_user
from contracts.scopes import Role as PersonRole
from runtime.service.settings import (
    ConsoleSettings,
    DatabaseSettings,
    Deployment,
    IngressSettings,
    load_settings,
)
from tools.children import Say
from tools.settings import StackSettings
from tools.signing_keys import make_signing_keys
from tools.stack import (
    Stack,
    StackError,
    StackOptions,
    StackUnavailable,
    start_stack,
)
from tools.stack.ports import choose_ports
from tools.stack.probes import run_apart
from tools.stack.stack import uninterrupted
from tools.stack.state import Owner
from tools.system import CLIENT, ONE_OF_EACH, Instance, Role, System

_HTTP: Final = "ACKLEDGER_HTTP_PORT"
CONSOLE_EMAIL: Final = "admin@ackledger.example"


@dataclass(frozen=True, slots=True)
class Running:
    """A system that is up, and the servers that it stands on."""

    stack: Stack
    system: System
    console_password: str | None = None
    """Of CONSOLE_EMAIL, an admin; None where this is no development."""

    @property
    def upstream_amqp_url(self) -> str | None:
        """Where the upstream system of this name publishes; None where the broker is not ours."""
        endpoint = getattr(self.stack.rabbitmq, "endpoint", None)
        if endpoint is None or CLIENT not in endpoint.passwords:
            return None
        ports = self.stack.rabbitmq.ports
        return f"amqp://{CLIENT}:{endpoint.passwords[CLIENT]}@127.0.0.1:{ports['amqp']}/"


@contextmanager
def everything(
    environment: Mapping[str, str],
    *,
    say: Say,
    ingresses: int = 1,
    is_kept_up: bool = True,
    is_verbose: bool = False,
) -> Iterator[Running]:
    """Start servers and processes, and stop at the end, in order, all that was started here.

    Several `ingresses` share one port. While it lasts, `run.json` tells other terminals where.
    Raises CommandError.
    """
    settings = load_settings(StackSettings, environment)
    directory = settings.directory.resolve()
    known = RunningState.load(directory)
    _refuse_second(known, directory)
    with _stack(settings, environment, say) as stack:
        port = _shared_port(environment) if ingresses > 1 else {}
        system = System(
            environment={
                "ACKLEDGER_ENV": "development",
                # The console says whose browser asks.
                "ACKLEDGER_TRUSTED_PROXIES": "127.0.0.1",
                **make_signing_keys(stack),
                **environment,
                **port,
                **stack.urls,
            },
            directory=directory,
            instances=_instances(ingresses, port),
            identify=stack.as_process,
            known_api_key=known.api_key,
            is_kept_up=is_kept_up,
            is_verbose=is_verbose,
            say=say,
        )
        running = Running(stack, system)
        try:
            system.start()
            password = _console_password(environment, stack, known)
            running = replace(running, console_password=password)
            _state_of(running).save(directory)
            yield running
        finally:
            uninterrupted(system.stop)
            RunningState(
                api_key=system.api_key or known.api_key,
                console_password=running.console_password or known.console_password,
            ).save(directory)


def _console_password(
    environment: Mapping[str, str], stack: Stack, known: RunningState
) -> str | None:
    """Return the password of a development's admin, who is made if need be."""
    wanted = load_settings(ConsoleSettings, environment)
    if wanted.env is not Deployment.DEVELOPMENT:
        return None

    async def ensured() -> str:
        settings = load_settings(DatabaseSettings, {**environment, **stack.urls})
        async with database_connection(settings, name="run") as connection:
            return await ensure_user(
                connection,
                email=CONSOLE_EMAIL,
                role=PersonRole.ADMIN,
                known=known.console_password,
                actor=login_actor(),
            )

    return run_apart(ensured())


def _shared_port(environment: Mapping[str, str]) -> dict[str, str]:
    """The port of all ingresses, chosen before the first of them takes it."""
    asked = environment.get(_HTTP, "")
    if asked not in {"", "0"}:
        return {_HTTP: asked}
    usual = {} if asked else {_HTTP: IngressSettings.model_fields["http_port"].default}
    return {_HTTP: str(choose_ports([_HTTP], previous=usual)[_HTTP])}


def _instances(ingresses: int, port: Mapping[str, str]) -> list[Instance]:
    """One of each role, and more ingresses behind the first: they stop before the others do."""
    ingress, *others = ONE_OF_EACH
    more = (f"ingress-{number}" for number in range(2, ingresses + 1))
    return [
        ingress,
        *(Instance(role=Role.INGRESS, name=name, environment=port) for name in more),
        *others,
    ]


@contextmanager
def _stack(settings: StackSettings, environment: Mapping[str, str], say: Say) -> Iterator[Stack]:
    options = replace(
        stack_options(settings, environment),
        progress=lambda service, text: say(f"{service:<9} {text}"),
    )
    try:
        stack = start_stack(options)
    except (StackError, OSError) as error:
        raise stack_failure(error) from error
    with stack:
        yield stack


def stack_options(settings: StackSettings, environment: Mapping[str, str]) -> StackOptions:
    """Return what the settings ask of the local stack."""
    return StackOptions(
        directory=settings.directory.resolve(),
        mode=settings.stack,
        postgres=settings.stack_postgres,
        database_url=settings.database_url,
        amqp_url=settings.amqp_url,
        redis_url=settings.redis_url,
        management_url=settings.amqp_management_url,
        upstream_users=(CLIENT,),
        environment=environment,
    )


def stack_failure(error: Exception) -> CommandError:
    """Return what a failure of the stack means for the command."""
    if isinstance(error, StackUnavailable):
        return UsageError(str(error))
    return UnreachableError(str(error))


def owner_of(state: RunningState) -> psutil.Process | None:
    """Return the living process that wrote a state."""
    if state.pid is None or state.started_at is None:
        return None
    is_alive = Owner(pid=state.pid, created=state.started_at).alive
    return psutil.Process(state.pid) if is_alive else None


def _refuse_second(known: RunningState, directory: Path) -> None:
    owner = owner_of(known)
    if owner is not None and owner.pid != Owner.current().pid:
        raise RefusedError(
            f"Ackledger runs in {directory} already (process {owner.pid}, {known.http_url}); "
            "stop it first, or give this one a directory of its own: ACKLEDGER_DIRECTORY=…"
        )


def _state_of(running: Running) -> RunningState:
    owner = Owner.current()
    return RunningState(
        api_key=running.system.api_key,
        console_password=running.console_password,
        http_url=running.system.http_url,
        upstream_amqp_url=running.upstream_amqp_url,
        management_url=running.stack.rabbitmq.management_url,
        status_urls=running.system.status_urls,
        pid=owner.pid,
        started_at=owner.created,
    )
