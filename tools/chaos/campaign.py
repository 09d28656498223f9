"""A campaign: very many chaos runs, several at a time, each a process in a directory of its own.

What a run found is a line of a file as soon as it is over; a campaign that is begun again goes on
with the seeds that have none. The directory of a run that was not well is kept.
"""

import asyncio
import hashlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson

from cli.launching import with_our_code

RUN_BOUND_S: Final = 900.0
"""Beyond the seconds of the load: more than a run takes that uses up every bound it has."""
_STOP_BOUND_S: Final = 40.0
"""A run that is told to stop ends its servers cleanly."""
_STAGGER_S: Final = 4.0
"""The first runs begin one after the other: starting servers is what costs most."""
_NOT_RUN: Final = frozenset({"tests", "docs", "findings", "build", "dist"})
_SOURCES: Final = frozenset({".py", ".sql", ".lua", ".toml"})


class Ending(StrEnum):
    """How a run ended."""

    WELL = "well"
    BREACH = "breach"
    """An invariant is broken, or a promise stayed open."""
    SLOW = "slow"
    """Every promise was kept, and something new took longer than its bound to complete."""
    NO_VERDICT = "no verdict"
    """A fault could not be brought about, or the run ended without a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What to run. `arguments` are given to every run, behind its seed and directory."""

    directory: Path
    seeds: Sequence[int]
    jobs: int
    seconds: float
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def results(self) -> Path:
        """The file with a line for each run: of this tree, and of these arguments."""
        what = " ".join((f"{self.seconds:g}", *self.arguments))
        name = hashlib.sha256(f"{tree_hash()} {what}".encode()).hexdigest()[:12]
        return self.directory / f"results-{name}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One line: a seed, how it ended, and its whole report where it wrote one."""

    seed: int
    ending: Ending
    wall_s: float
    report: Mapping[str, Any]

    def to_line(self) -> bytes:
        """Return the line; `of_line` reads it back."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def of_line(cls, line: bytes) -> "RunResult":
        """Return the result that a line tells of."""
        fields = orjson.loads(line)
        return cls(**{**fields, "ending": Ending(fields["ending"])})


def tree_hash(root: Path | None = None) -> str:
    """Return a digest of the code that runs: what is not committed counts too."""
    root = Path(__file__).parents[2] if root is None else root
    digest = hashlib.sha256()
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith(".") or folder.name in _NOT_RUN:
            continue
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SOURCES:
                digest.update(str(path.relative_to(root)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def ending_of(report: Mapping[str, Any]) -> Ending:
    """Return how a run ended, from its report; an empty one is that of a run without any."""
    if not report:
        return Ending.NO_VERDICT
    if report["is_well"]:
        return Ending.WELL
    is_broken = report["breaches"] or report["unresolved"] or report["drained_s"] is None
    is_heard = report["followed_s"] is not None and report["delivered_s"] is not None
    if is_broken or not report["is_every_event_read"] or not is_heard:
        return Ending.BREACH
    if any(fault["trouble"] for fault in report["faults"]):
        return Ending.NO_VERDICT
    return Ending.SLOW


def read_results(file: Path) -> list[RunResult]:
    """Return what is known, the last line of each seed; a line that was cut short is none."""
    known: dict[int, RunResult] = {}
    if file.exists():
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                result = RunResult.of_line(line)
                known[result.seed] = result
    return [known[seed] for seed in sorted(known)]


class CampaignRunner:
    """Runs what has no verdict yet. Cancelled, it stops the runs under way and forgets them."""

    def __init__(self, campaign: Campaign, *, progress: Callable[[str], None]) -> None:
        self._campaign = campaign
        self._progress = progress
        self._results = campaign.results
        self._endings: Counter[Ending] = Counter()
        self._running: set[int] = set()
        self._began = time.monotonic()
        self._done_now = 0

    async def run(self) -> list[RunResult]:
        """Return the results of all seeds of the campaign that have one at the end."""
        campaign = self._campaign
        campaign.directory.mkdir(parents=True, exist_ok=True)
        wanted = set(campaign.seeds)
        done = [
            one
            for one in read_results(self._results)
            if one.seed in wanted and one.ending is not Ending.NO_VERDICT
        ]
        self._endings.update(one.ending for one in done)
        settled = {one.seed for one in done}
        waiting = iter([seed for seed in campaign.seeds if seed not in settled])
        async with asyncio.TaskGroup() as group:
            for number in range(campaign.jobs):
                group.create_task(self._work(waiting, after_s=number * _STAGGER_S))
        return [one for one in read_results(self._results) if one.seed in wanted]

    async def _work(self, seeds: Iterator[int], *, after_s: float) -> None:
        await asyncio.sleep(after_s)
        for seed in seeds:
            self._running.add(seed)
            self._show()
            result = await self._run(seed)
            self._running.discard(seed)
            self._endings[result.ending] += 1
            self._done_now += 1
            with self._results.open("ab") as file:
                file.write(result.to_line())
            self._show()

    async def _run(self, seed: int) -> RunResult:
        campaign = self._campaign
        report = campaign.directory / f"seed-{seed}.json"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        log = campaign.directory / f"seed-{seed}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli", "chaos", "--seed", str(seed)),
                *("--seconds", f"{campaign.seconds:g}", "--report", str(report)),
                *("--directory", str(campaign.directory / f"seed-{seed}")),
                *campaign.arguments,
                env=with_our_code(campaign.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                # A terminal's Ctrl-C reaches this process alone, which stops them in order.
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(RUN_BOUND_S + campaign.seconds):
                    await process.wait()
            except TimeoutError:
                await _stop(process)
            except asyncio.CancelledError:
                await _stop(process)
                raise
        found = orjson.loads(report.read_bytes()) if report.exists() else {}
        report.unlink(missing_ok=True)
        ending = ending_of(found)
        if ending is Ending.WELL:
            log.unlink()
        return RunResult(
            seed=seed, ending=ending, wall_s=round(time.monotonic() - began, 1), report=found
        )

    def _show(self) -> None:
        total, done = len(self._campaign.seeds), self._endings.total()
        kinds = ", ".join(f"{self._endings[one]} {one.value}" for one in Ending)
        under_way = " ".join(str(seed) for seed in sorted(self._running))
        self._progress(f"{done} of {total}: {kinds}{self._left()}; running {under_way or 'none'}")

    def _left(self) -> str:
        if not self._done_now:
            return ""
        each_s = (time.monotonic() - self._began) / self._done_now
        left_s = each_s * (len(self._campaign.seeds) - self._endings.total())
        return f"; about {left_s / 60:.0f} min left"


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a run as Ctrl-C does, and return when all that it started is stopped."""
    with suppress(ProcessLookupError):
        process.terminate()
    stopping = asyncio.ensure_future(process.wait())
    done, _ = await asyncio.wait({stopping}, timeout=_STOP_BOUND_S)
    if not done:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await stopping
