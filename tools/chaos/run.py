"""A chaos run from nothing to a verdict: servers, load, faults, healing, drain, invariants."""

import asyncio
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from ackledger.client.errors import AckledgerError
from ackledger.client.publishing import quiet_libraries
from cli.failures import CommandError, UsageError
from runtime.service.settings import load_settings
from tools.chaos import volume
from tools.chaos.clock import ClockShift, find_faketime
from tools.chaos.events import EventRecorder
from tools.chaos.faults import clocks
from tools.chaos.faults.catalogue import chosen
from tools.chaos.faults.fault import ClaimBrokenError, SceneFault
from tools.chaos.invariants import (
    Breach,
    OrderTerms,
    await_drained,
    check,
    resolve_unknown,
)
from tools.chaos.journal import Journal
from tools.chaos.listening import Listeners, listening
from tools.chaos.load import Load, WalletPlan
from tools.chaos.options import ChaosOptions
from tools.chaos.recovery import RecoveryMeter
from tools.chaos.result import ChaosResult, StruckFault
from tools.chaos.scene import NotStruckError, Scene
from tools.chaos.schedule import PAUSE_LEAST_S, Duration, PlannedFault, plan_faults
from tools.children import Say, end_leftovers
from tools.running import stack_failure, stack_options
from tools.settings import StackSettings
from tools.stack import Stack, StackError, StackMode, StackOptions, start_stack, stop_stack

Progress = Callable[[str], None]
"""Called with what is under way, a few times a second at most."""

RESOLVE_BOUND_S: Final = 60.0
DRAIN_BOUND_S: Final = 90.0
"""What was republished and lost once more is due again after 10 s, then after 20 s."""
EVENTS_BOUND_S: Final = 30.0
_LATE_S: Final = 30.0
"""How long a recovery that missed its bound is waited for, so that its time is known."""
_HOT_WALLETS: Final = 8
_HEARD_WALLETS: Final = 1
"""Hot wallets of which a webhook gets every event, beside the meter's: some 20 a second."""


def plan_of(options: ChaosOptions) -> tuple[list[PlannedFault], dict[str, str]]:
    """Return what strikes when, and why some faults cannot strike on this machine."""
    faults = chosen(options.faults)
    skipped = {fault.name: why for fault in faults if (why := fault.missing()) is not None}
    durations = {
        fault.name: Duration(fault.striking_s, fault.lasting_s, tuple(sorted(fault.targets)))
        for fault in faults
        if fault.name not in skipped
    }
    if not durations:
        raise UsageError("; ".join(f"{name}: {why}" for name, why in skipped.items()))
    return (
        plan_faults(seed=options.seed, seconds=options.seconds, durations=durations),
        skipped,
    )


def run_chaos(
    options: ChaosOptions, environment: Mapping[str, str], *, say: Say, progress: Progress
) -> ChaosResult:
    """Run once and stop all that was started; what the run wrote stays in the directory.

    Raises CommandError when the scene cannot be set.
    """
    plan, skipped = plan_of(options)
    result = ChaosResult(
        options.seed, options.seconds, options.shape, options.bounds_scale, plan, skipped
    )
    quiet_libraries()
    with _servers(options, environment, {planned.name for planned in plan}, say) as stack:
        result.servers = {one.name: one.version for one in stack.services}
        run = _Run(options, result, stack, environment, say=say, progress=progress)
        try:
            uvloop.run(run.cancellable())
        except NotStruckError as error:
            raise CommandFailedError(str(error)) from error
    return result


class CommandFailedError(CommandError):
    """The scene could not be set or healed, so there is no verdict."""

    exit_code = 1


@contextmanager
def _servers(
    options: ChaosOptions, environment: Mapping[str, str], names: set[str], say: Say
) -> Iterator[Stack]:
    """Start with empty servers; at the end nothing of them runs, and no volume is mounted."""
    clear(options.directory)
    place = volume.place_of(options.directory)
    try:
        if any(fault.missing is volume.missing for fault in chosen(sorted(names))):
            volume.mount(place)
        with start_stack(_stack_options(options, environment, say)) as stack:
            yield stack
            # Nothing that they hold is needed any more, and a clean end takes them seconds.
            for service in stack.services:
                service.kill()
    except (StackError, OSError) as error:
        raise stack_failure(error) from error
    finally:
        # A run that was cut short may have left processes that still held on to their servers.
        end_leftovers(options.directory)
        stop_stack(options.directory)
        volume.unmount(place)


def clear(directory: Path) -> None:
    """Remove what a run left in its directory; whatever still runs there is stopped first."""
    end_leftovers(directory)
    stop_stack(directory)
    volume.unmount(volume.place_of(directory))
    shutil.rmtree(directory, ignore_errors=True)


def _stack_options(options: ChaosOptions, environment: Mapping[str, str], say: Say) -> StackOptions:
    """Private servers alone: faults must never reach anybody else's."""
    given = stack_options(load_settings(StackSettings, environment), environment)
    return replace(
        given,
        directory=options.directory,
        mode=StackMode.LOCAL,
        database_url=None,
        amqp_url=None,
        redis_url=None,
        management_url=None,
        progress=lambda service, text: say(f"{service:<9} {text}"),
    )


class _Run:
    """One run on servers that are up."""

    def __init__(
        self,
        options: ChaosOptions,
        result: ChaosResult,
        stack: Stack,
        environment: Mapping[str, str],
        *,
        say: Say,
        progress: Progress,
    ) -> None:
        self._options = options
        self._result = result
        self._say = say
        self._progress = progress
        self._faults = {fault.name: fault for fault in chosen(())}
        self._broken: list[Breach] = []
        self._scene = Scene(
            stack=stack,
            directory=options.directory.resolve(),
            environment=environment,
            say=say,
            shape=options.shape,
            clock=self._clock(result.plan),
        )

    def _clock(self, plan: Sequence[PlannedFault]) -> ClockShift | None:
        library = find_faketime()
        shifting = {fault.name for fault in clocks.FAULTS}
        if library is None or not shifting.intersection(planned.name for planned in plan):
            return None
        return ClockShift(library=library, directory=self._options.directory.resolve() / "clocks")

    async def cancellable(self) -> None:
        """Run; SIGTERM ends the run as Ctrl-C does, with everything stopped."""
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await self.run()

    async def run(self) -> None:
        """Attack, heal, wait, and compare; the result takes what is found."""
        began = time.monotonic()
        async with self._scene as scene:
            directory = self._options.directory
            self._spent("starting", since=began)
            with Journal(directory) as journal:
                events = EventRecorder(scene.doors.events_amqp_url, directory=directory)
                heard = listening(scene.doors, directory=directory, seed=self._options.seed)
                async with events, heard as listeners:
                    await self._attack(journal, listeners)
                    await self._compare(journal, events, listeners)
            await scene.leave_at_once()

    async def _compare(self, journal: Journal, events: EventRecorder, listeners: Listeners) -> None:
        """Let all come to its end, and hold what was promised against the books."""
        result, doors, began = self._result, self._scene.doors, time.monotonic()
        self._progress("healed; waiting for the drain")
        result.unresolved = await resolve_unknown(doors, journal, bound_s=RESOLVE_BOUND_S)
        result.drained_s = await await_drained(doors, journal, bound_s=DRAIN_BOUND_S)
        result.is_every_event_read = await events.drain(EVENTS_BOUND_S)
        heard = await listeners.drain(events, bound_s=EVENTS_BOUND_S)
        result.followed_s, result.delivered_s = heard.followed_s, heard.delivered_s
        self._spent("draining", since=began)
        began = time.monotonic()
        self._progress("comparing what was promised with the books")
        verdict = await check(
            doors,
            journal,
            events,
            terms=self._terms(),
            batch_size=result.shape.batch_size,
            listeners=listeners,
        )
        result.heard = listeners.counts()
        result.breaches = [*self._broken, *verdict.breaches]
        result.late, result.crossed = verdict.late, verdict.crossed
        result.counts, result.kinds = verdict.counts, verdict.kinds
        result.promises = _counted(journal)
        result.revivals = dict(self._scene.revivals)
        self._spent("comparing", since=began)

    def _terms(self) -> OrderTerms:
        partitions = self._options.shape.partitions
        struck = [self._faults[planned.name] for planned in self._result.plan]
        return OrderTerms(
            partitions=partitions,
            is_confirmed_order_kept=partitions == 1
            or not any(fault.moves_bindings for fault in struck),
            losses=self._scene.losses,
        )

    def _spent(self, step: str, *, since: float) -> None:
        self._result.spent_s[step] = time.monotonic() - since

    async def _attack(self, journal: Journal, listeners: Listeners) -> None:
        """Strike by the plan while the load runs, and heal at the end."""
        options, doors = self._options, self._scene.doors
        load = Load(
            doors,
            seed=options.seed,
            rate_per_s=options.shape.rate_per_s,
            clients=options.clients,
            journal=journal,
            wallets=WalletPlan(hot=_HOT_WALLETS, cold=options.wallets),
            pressure=options.shape.pressure,
        )
        meter = RecoveryMeter(doors, journal)
        self._progress(f"making {options.wallets} wallets")
        began = time.monotonic()
        wallets = await load.prepare()
        await meter.prepare()
        await listeners.subscribe([*wallets.hot[:_HEARD_WALLETS], *meter.wallets])
        self._spent("preparing", since=began)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            group.create_task(meter.run())
            try:
                await self._strike_all(meter)
                await self._scene.heal()
            finally:
                load.stop()
                meter.stop()
        self._result.shed = load.shed.total()

    async def _strike_all(self, meter: RecoveryMeter) -> None:
        """Strike by the plan; what takes longer than planned moves the rest, not the pauses."""
        began = time.monotonic()
        late_s = over_s = 0.0
        for planned in self._result.plan:
            late_s = max(late_s, over_s + PAUSE_LEAST_S / 2 - planned.at_s)
            await self._wait_until(began + planned.at_s + late_s, what=f"next: {planned.label}")
            fault = self._faults[planned.name]
            bound_s = fault.recovery_bound_s * self._options.bounds_scale
            struck = StruckFault(planned, fault.claim, bound_s)
            struck.began_s = time.monotonic() - began
            self._result.faults.append(struck)
            await self._strike(fault, struck, meter)
            over_s = time.monotonic() - began
        await self._wait_until(began + self._options.seconds, what="the last seconds")

    async def _strike(self, fault: SceneFault, struck: StruckFault, meter: RecoveryMeter) -> None:
        """Bring one fault about, heal it, and measure how soon something new is COMPLETED."""
        started = time.monotonic()
        self._progress(f"striking: {struck.planned.label}")
        try:
            async with fault.strike_at(struck.planned.target)(self._scene):
                struck_at = time.monotonic()
                struck.struck_after_s = struck_at - started
                struck.in_flight = await self._scene.pending()
                await self._wait_until(
                    struck_at + struck.planned.lasting_s, what=f"struck: {struck.planned.label}"
                )
        except ClaimBrokenError as error:
            self._broken.append(Breach("claim", fault.name, str(error)))
        except (AckledgerError, NotStruckError, StackError, CommandError) as error:
            struck.trouble = str(error)
            await self._scene.heal()
        healed_at = time.monotonic()
        struck.lasted_s = healed_at - started - (struck.struck_after_s or 0.0)
        self._progress(f"healed: {struck.planned.label}")
        struck.recovery_s = await meter.first_completed_after(
            healed_at, bound_s=max(struck.recovery_bound_s, _LATE_S)
        )

    async def _wait_until(self, moment: float, *, what: str) -> None:
        while (left_s := moment - time.monotonic()) > 0:
            self._progress(f"{what} ({left_s:.0f} s)")
            await asyncio.sleep(min(left_s, 0.5))


def _counted(journal: Journal) -> dict[str, int]:
    return {f"{act}.{outcome}": count for (act, outcome), count in sorted(journal.counts.items())}
