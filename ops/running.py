"""Everything on one machine: servers (private or given), then our processes; for run and demo."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from ops.children import Say
from ops.failures import CommandError, RefusedError, UnreachableError, UsageError
from ops.running_state import RunningState
from ops.settings import StackSettings
from ops.stack import (
    Stack,
    StackError,
    StackOptions,
    StackUnavailable,
    start_stack,
)
from ops.stack.stack import uninterrupted
from ops.stack.state import Owner
from ops.system import CLIENT, System
from runtime.settings import load_settings


@dataclass(frozen=True, slots=True)
class Running:
    """A system that is up, and the servers that it stands on."""

    stack: Stack
    system: System

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
    environment: Mapping[str, str], *, say: Say, is_kept_up: bool = True, is_verbose: bool = False
) -> Iterator[Running]:
    """Start servers and processes, and stop at the end, in order, all that was started here.

    While it lasts, `run.json` tells other terminals where. Raises CommandError.
    """
    settings = load_settings(StackSettings, environment)
    directory = settings.directory.resolve()
    known = RunningState.load(directory)
    _refuse_second(known, directory)
    with _stack(settings, environment, say) as stack:
        system = System(
            environment={**environment, **stack.urls},
            directory=directory,
            known_api_key=known.api_key,
            is_kept_up=is_kept_up,
            is_verbose=is_verbose,
            say=say,
        )
        running = Running(stack, system)
        try:
            system.start()
            _state_of(running).save(directory)
            yield running
        finally:
            uninterrupted(system.stop)
            RunningState(api_key=system.api_key or known.api_key).save(directory)


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
        management_url=settings.rabbitmq_management_url,
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
        http_url=running.system.http_url,
        upstream_amqp_url=running.upstream_amqp_url,
        management_url=running.stack.rabbitmq.management_url,
        status_urls=running.system.status_urls,
        pid=owner.pid,
        started_at=owner.created,
    )
