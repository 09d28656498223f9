"""A bench run from nothing to a result: servers, cases in their turn, everything stopped."""

import asyncio
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from ackledger.client.publishing import quiet_libraries
from cli.failures import UsageError
from tools.bench.bench import Bench, Watch
from tools.bench.cases.catalogue import chosen
from tools.bench.failing import BenchFailedError
from tools.bench.ground import without_settings
from tools.bench.machine import circumstances
from tools.bench.options import BenchOptions
from tools.bench.programs import end_programs
from tools.bench.result import BenchResult
from tools.children import Say, end_leftovers
from tools.running import stack_failure
from tools.stack import (
    Stack,
    StackError,
    StackMode,
    StackOptions,
    StackUnavailable,
    start_stack,
    stop_stack,
)
from tools.stack.postgres import find_postgres
from tools.system import CLIENT

Keep = Callable[[BenchResult], None]


def run_bench(
    options: BenchOptions,
    environment: Mapping[str, str],
    *,
    command: str,
    say: Say,
    watch: Watch,
    keep: Keep,
) -> BenchResult:
    """Run the cases and stop all that was started; the directory is emptied first.

    `keep` is given the result after each case, so that a run that is cut short keeps what it has.
    Raises CommandError when a sample cannot be taken, UsageError when the PostgreSQL that it asks
    for is not installed: before anything is emptied or started.
    """
    require_postgres(options.postgres)
    result = BenchResult()
    quiet_libraries()
    with _servers(options, environment, say) as stack:
        bench = Bench(
            options,
            stack=stack,
            environment=without_settings(environment),
            result=result,
            watch=watch,
        )
        uvloop.run(_cancellable(bench, command, keep))
    return result


def require_postgres(major: int | None) -> None:
    """Raise UsageError where a run would be without the server that was asked for."""
    if major is None:
        return
    try:
        find_postgres(StackOptions(postgres_major=major))
    except StackUnavailable as reason:
        raise UsageError(
            f"--postgres {major}: {reason}. On Debian: apt install postgresql-{major}"
        ) from reason


async def _cancellable(bench: Bench, command: str, keep: Keep) -> None:
    """Run; SIGTERM ends the run as Ctrl-C does, with everything stopped."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    result = bench.result
    result.circumstances = await circumstances(bench, command=command)
    for case in chosen(bench.options.cases):
        for contestant, why in case.missing().items():
            result.missing[f"{case.name}: {contestant}"] = why
        try:
            await case.run(bench)
        except BenchFailedError as error:
            raise BenchFailedError(f"{case.name}: {error}") from error
        finally:
            result.circumstances["ended_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            keep(result)


def samples_of(options: BenchOptions) -> int:
    """Return how many samples a run takes, for its progress."""
    return sum(case.samples(options) for case in chosen(options.cases))


@contextmanager
def _servers(options: BenchOptions, environment: Mapping[str, str], say: Say) -> Iterator[Stack]:
    """Start private servers with empty data; at the end nothing of the run is left running."""
    clear(options.directory)
    options.directory.mkdir(parents=True)
    try:
        with start_stack(_stack_options(options, environment, say)) as stack:
            yield stack
    except (StackError, OSError) as error:
        raise stack_failure(error) from error
    finally:
        end_everything(options.directory)


def clear(directory: Path) -> None:
    """Remove what a run left in its directory; whatever still runs there is stopped first."""
    end_everything(directory)
    shutil.rmtree(directory, ignore_errors=True)


def end_everything(directory: Path) -> None:
    """Stop whatever runs in a directory, also what a killed run left."""
    end_leftovers(directory)
    end_programs(directory)
    stop_stack(directory)


def _stack_options(options: BenchOptions, environment: Mapping[str, str], say: Say) -> StackOptions:
    """Private servers alone: nobody else's are loaded, or measured."""
    return StackOptions(
        directory=options.directory,
        mode=StackMode.LOCAL,
        postgres_major=options.postgres,
        upstream_users=(CLIENT,),
        environment=environment,
        progress=lambda service, text: say(f"{service:<9} {text}"),
    )
