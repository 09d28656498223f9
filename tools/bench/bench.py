"""What every case is handed: servers, sizes, the way to a fresh field, and where figures go."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from cli.dependencies import Connection
from runtime.service.settings import VerifySettings
from tools.bench.ground import PATIENT, Crew, Field, Ground, fresh_field, fresh_ground
from tools.bench.laying import Kind, Pattern, Transfer, Wallets, make_wallets, plan_transfers
from tools.bench.options import BenchOptions, Sizes
from tools.bench.result import BenchResult
from tools.stack import Stack
from verification.verify import verify

_FINDINGS_TOLD: Final = 3
_PENDING_MAX_S: Final = VerifySettings.model_fields["verify_pending_max_s"].default


class Watch(Protocol):
    """Whoever follows the run."""

    def step(self, what: str) -> None:
        """Show what is under way."""

    def sampled(self, case: str, contestant: str, figures: Mapping[str, float]) -> None:
        """Tell of a sample."""


class Bench:
    """One run's means."""

    def __init__(
        self,
        options: BenchOptions,
        *,
        stack: Stack,
        environment: Mapping[str, str],
        result: BenchResult,
        watch: Watch,
    ) -> None:
        self.options = options
        self.stack = stack
        self.environment = dict(environment)
        self.result = result
        self.watch = watch
        self._crew = Crew(
            directory=options.directory,
            environment=self.environment,
            processors=options.processors,
        )
        self._seeds = itertools.count(1)

    @property
    def sizes(self) -> Sizes:
        """How much of everything."""
        return self.options.sizes

    @property
    def directory(self) -> Path:
        """Where logs and whatever a case writes are kept."""
        return self.options.directory

    def next_seed(self) -> int:
        """Return a seed: the same in every run for the same sample."""
        return next(self._seeds)

    def note(self, case: str, contestant: str, figures: Mapping[str, float]) -> None:
        """Keep one sample."""
        self.result.note(case, contestant, figures)
        self.watch.sampled(case, contestant, figures)

    @asynccontextmanager
    async def gated_field(self, crew: Crew | None = None) -> AsyncIterator[Field]:
        """Give a system that posts nothing before the gate is opened, and republishes nothing.

        `crew`: other processes than usually.
        """
        crew = crew or self._crew
        async with fresh_field(self.stack, crew, is_gated=True, settings=PATIENT) as field:
            yield field

    @asynccontextmanager
    async def open_field(self, *, is_patient: bool = False) -> AsyncIterator[Field]:
        """Give a system as it usually runs; `is_patient`: a long backlog is not republished."""
        settings = PATIENT if is_patient else {}
        async with fresh_field(self.stack, self._crew, settings=settings) as field:
            yield field

    @asynccontextmanager
    async def bare_ground(self) -> AsyncIterator[Ground]:
        """Give an empty database and virtual host, for a rival or for several systems in turn."""
        async with fresh_ground(self.stack) as ground:
            yield ground

    @property
    def crew(self) -> Crew:
        """Which processes run."""
        return self._crew

    async def wallets(self, connection: Connection, pattern: Pattern = Pattern.UNIFORM) -> Wallets:
        """Make as many wallets as a pattern needs."""
        rich = self.wallets_of(pattern)
        return await make_wallets(connection, rich=rich, poor=self.sizes.poor_wallets)

    def wallets_of(self, pattern: Pattern) -> int:
        """Return among how many wallets the money moves."""
        return self.sizes.many_wallets if pattern.is_among_many else self.sizes.wallets

    def transfers(self, wallets: Wallets, pattern: Pattern, count: int) -> Sequence[Transfer]:
        """Plan transfers between them."""
        return list(plan_transfers(wallets, pattern, count, seed=self.next_seed()))

    def count_of(self, kind: Kind) -> int:
        """Return how many of a kind are drained for one sample."""
        return {
            Kind.RECORDED: self.sizes.recorded,
            Kind.REQUESTED: self.sizes.requested,
            Kind.SINGLES: self.sizes.singles,
        }[kind]

    async def prove(self, connection: Connection, what: str) -> None:
        """Verify a ledger that has come to rest; what is found goes into the result."""
        self.watch.step(f"verifying after {what}")
        report = await verify(connection, pending_max_s=_PENDING_MAX_S)
        findings = [] if report.clean else report.to_json()["findings"]
        self.found(what, findings, total=report.findings_total)

    def found(self, what: str, findings: Sequence[object], *, total: int | None = None) -> None:
        """Keep what a proof of some books came to; `total` where more was found than is told."""
        self.result.verified += 1
        if findings:
            count = len(findings) if total is None else total
            self.result.unclean.append(
                f"{what}: {count} findings, first {list(findings[:_FINDINGS_TOLD])}"
            )
