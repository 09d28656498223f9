"""Killed processes cost no promise: what was open is asked again, and the order stays."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.integration.ingress.serving import open_doors
from tests.tools.chaos.attacked import (
    HEARD,
    LISTENED_TO,
    Run,
    answered,
    chaos_doors,
    run_load,
)
from tools.chaos.journal import Outcome
from tools.stack import Stack
from tools.system import Instance, Role

pytestmark = pytest.mark.long

_INSTANCES = (*LISTENED_TO, Instance(role=Role.INGRESS, name="ingress-2", environment=HEARD))


async def test_a_run_with_killed_processes_breaks_no_invariant(
    stack: Stack, template: str, tmp_path: Path
) -> None:
    recovered: dict[str, float | None] = {}

    async with open_doors(stack, template, tmp_path, instances=_INSTANCES) as doors:

        async def kill_each(run: Run) -> None:
            for name in ("processor", "ingress", "reconciler", "notifier"):
                await answered(run.journal, 150)
                await asyncio.to_thread(doors.system.kill, name)
                await asyncio.to_thread(doors.system.restart, name)
                healed_s = time.monotonic()
                recovered[name] = await run.meter.first_completed_after(healed_s, bound_s=30)
            await answered(run.journal, 150)

        run = await run_load(chaos_doors(doors), tmp_path, seed=11, attack=kill_each, is_heard=True)
        verdict = await run.verdict()

    assert verdict.breaches == []
    assert run.drained_s is not None
    assert run.heard.followed_s is not None
    assert run.heard.delivered_s is not None
    assert run.journal.open == {}
    assert None not in recovered.values()
    # The clients met the dead ingress: the run was not healthy all the way.
    assert any(outcome is Outcome.UNKNOWN for _, outcome in run.journal.counts)
