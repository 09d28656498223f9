"""Starting, finding and stopping the three servers together."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Self

from tools.stack.options import (
    Progress,
    ServiceKind,
    StackCancelled,
    StackOptions,
    StackUnavailable,
)
from tools.stack.resolution import NAMES, attach, resolve, with_url
from tools.stack.service import Service, with_login
from tools.stack.state import Owner, StackState, locked

_POLL_S = 0.1


@dataclass(frozen=True)
class Stack:
    """Three services that answer. `owned`: this process started or adopted them.

    As a context manager it stops at the end what is owned, and leaves the rest running.
    """

    directory: Path
    postgres: Service
    rabbitmq: Service
    redis: Service
    owned: bool

    @property
    def services(self) -> tuple[Service, Service, Service]:
        """All three, in the order in which clients need them."""
        return (self.postgres, self.rabbitmq, self.redis)

    @property
    def urls(self) -> dict[str, str]:
        """The settings that make our processes use this stack."""
        return {
            "DATABASE_URL": self.postgres.url,
            "AMQP_URL": self.rabbitmq.url,
            "REDIS_URL": self.redis.url,
        }

    def as_process(self, environment: Mapping[str, str], process: str) -> dict[str, str]:
        """Return an environment in which one of our processes has a login of its own.

        Where a server has no logins of ours, its URL stays as it is.
        """
        changed = dict(environment)
        for variable, service in (("DATABASE_URL", self.postgres), ("AMQP_URL", self.rabbitmq)):
            login = service.login(process)
            if login is not None and variable in changed:
                changed[variable] = with_login(changed[variable], login)
        return changed

    def upstream_url(self, name: str = "demo") -> str | None:
        """Where an upstream user publishes; None on a RabbitMQ that was given by URL."""
        return self.rabbitmq.upstream_url(name)

    def stop(self, *, graceful: bool = True) -> None:
        """Stop all but the servers given by URL; no process of theirs is left. Data stay."""
        directory = self.directory.resolve()

        def stop_all() -> None:
            with locked(directory):
                _stop([s for s in self.services if s.kind is not ServiceKind.URL], graceful)
                (directory / "stack.json").unlink(missing_ok=True)

        uninterrupted(stop_all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # `stack up` may have taken the servers over from us meanwhile.
        state = StackState.load(self.directory)
        if self.owned and state is not None and state.owner == Owner.current():
            self.stop()


def start_stack(options: StackOptions) -> Stack:
    """Three servers that answer, started or found running in `options.directory`.

    A stack that `detached` left, or that another living process owns, is used and not owned.
    What a dead process left behind is adopted, or ended and started anew if it does not answer.
    If anything fails, or the user interrupts, no process is left. Blocks: up to a minute or so
    the first time (download), some 5 s later. Raises StackUnavailable (a server cannot be had),
    StackUnreachable (a given URL does not answer) or StackError.
    """
    progress = _one_at_a_time(options.progress)
    options = replace(options, directory=options.directory.resolve(), progress=progress)
    with _termination_raises(), locked(options.directory):
        state = StackState.load(options.directory)
        start = _Start(options)
        services = start.run()
        owned = _takes_over(state, start) and not options.detached
        kept = state.owner if state and not owned and not options.detached else None
        owner = Owner.current() if owned else kept
        described = {s.name: {"kind": str(s.kind), "url": s.url} for s in services.values()}
        StackState(owner=owner, services=described).save(options.directory)
        return Stack(directory=options.directory, owned=owned, **services)


def _one_at_a_time(progress: Progress) -> Progress:
    lock = threading.Lock()

    def report(service: str, text: str) -> None:
        with lock:
            progress(service, text)

    return report


def _takes_over(state: StackState | None, start: "_Start") -> bool:
    """Whether the servers become ours: nobody living has a claim on them."""
    if not start.found_running:
        return True
    if state is None:
        return True
    return state.owner is not None and not state.owner.alive


class _Start:
    """One attempt to have all three; `found_running` tells those that ran before."""

    def __init__(self, options: StackOptions) -> None:
        self._options = options
        self._cancelled = threading.Event()
        self._services: dict[str, Service] = {}
        self.found_running: set[str] = set()

    def run(self) -> dict[str, Service]:
        pool = ThreadPoolExecutor(max_workers=len(NAMES), thread_name_prefix="stack")
        futures: list[Future[None]] = []
        try:
            futures += [pool.submit(self._start, name) for name in NAMES]
            # In short steps, so that a signal is seen soon whatever thread it reaches.
            while wait(futures, timeout=_POLL_S, return_when=FIRST_EXCEPTION).not_done:
                if any(future.done() and future.exception() for future in futures):
                    break
            for future in _failed_first(futures):
                future.result()
        except BaseException:
            self._cancelled.set()
            uninterrupted(lambda: self._undo(futures))
            raise
        finally:
            pool.shutdown(wait=True)
        return self._services

    def _start(self, name: str) -> None:
        service = resolve(name, self._options, self._cancelled)
        self._services[name] = service
        ours = service.kind is not ServiceKind.URL
        if ours and service.alive and service.answers():
            self.found_running.add(name)
            return
        service.start(keep_ports=False)

    def _undo(self, futures: list[Future[None]]) -> None:
        wait(futures)
        started = [
            service
            for name, service in self._services.items()
            if service.kind is not ServiceKind.URL and name not in self.found_running
        ]
        _stop(started, graceful=False)


def _failed_first(futures: list[Future[None]]) -> list[Future[None]]:
    """A cause before the cancellations that it brought about."""
    done = [future for future in futures if future.done()]
    return sorted(done, key=lambda f: isinstance(f.exception(), StackCancelled | None))


def read_stack(directory: Path, *, options: StackOptions | None = None) -> Stack | None:
    """The stack that runs in a directory, not owned; None when there is none.

    Its services can be stopped, killed and started like those of `start_stack`.
    """
    directory = directory.resolve()
    state = StackState.load(directory)
    if state is None or set(state.services) != set(NAMES):
        return None
    options = replace(options or StackOptions(), directory=directory)
    try:
        services = {name: _rebuild(name, state, options) for name in NAMES}
    except StackUnavailable:
        return None
    ours = [s for s in services.values() if s.kind is not ServiceKind.URL]
    if ours and not any(service.alive for service in ours):
        return None
    return Stack(directory=directory, owned=False, **services)


def _rebuild(name: str, state: StackState, options: StackOptions) -> Service:
    described: Mapping[str, str] = state.services[name]
    kind = ServiceKind(described["kind"])
    if kind is ServiceKind.URL:
        options = with_url(options, name, described["url"])
    return attach(name, kind, options)


def stop_stack(directory: Path, *, options: StackOptions | None = None) -> bool:
    """Stop all that runs in a directory, also what a dead starter left; False if nothing did."""
    directory = directory.resolve()
    if not directory.is_dir():
        return False
    options = replace(options or StackOptions(), directory=directory)
    stack = read_stack(directory, options=options)
    if stack is not None:
        stack.stop()
        return True
    leftovers = _leftovers(options)
    with locked(directory):
        _stop(leftovers, graceful=True)
        (directory / "stack.json").unlink(missing_ok=True)
    return bool(leftovers)


def _leftovers(options: StackOptions) -> list[Service]:
    found: list[Service] = []
    for name in NAMES:
        with suppress(StackUnavailable):
            service = attach(name, ServiceKind.PRIVATE, options)
            if service.alive:
                found.append(service)
    return found


def _stop(services: list[Service], graceful: bool) -> None:
    """Stop them at once; the first failure is raised when all are done."""
    with ThreadPoolExecutor(max_workers=len(NAMES)) as pool:
        futures = [pool.submit(service.stop, graceful=graceful) for service in services]
    for future in futures:
        future.result()


def uninterrupted(work: Callable[[], None]) -> None:
    """Run `work` to its end, even when Ctrl-C is pressed again; its bounds are its own."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised again below, in the caller
            failure.append(error)

    thread = threading.Thread(target=run, name="stack-stop")
    thread.start()
    while thread.is_alive():
        with suppress(KeyboardInterrupt, SystemExit):
            thread.join()
    if failure:
        raise failure[0]


@contextmanager
def _termination_raises() -> Iterator[None]:
    """SIGTERM and SIGHUP end a start as Ctrl-C does, unless the program handles them itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    unhandled = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # signal's signature
        raise SystemExit(128 + number)

    for number in unhandled:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)
