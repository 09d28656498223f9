"""Whoever asks a process of ours to end sees a clean end, whenever the request comes."""

import asyncio
import os
import sys
from typing import Final

import pytest

_BOUND_S: Final = 60.0

# It asks itself to stop before its loops run, or when Python gives back what it holds at its end.
_PROCESS: Final = """
import os, signal, sys
from runtime.service.lifecycle import Service, run_process
from runtime.service.settings import ServiceSettings

class AsksWhenItGoes:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGTERM):
        kill(me, number)

class Work:
    async def run(self):
        os.kill(os.getpid(), signal.SIGTERM)

async def serve(settings):
    if sys.argv[1] == "early":
        os.kill(os.getpid(), signal.SIGTERM)
    service = Service("short", shutdown_timeout_s=1)
    service.add_loop("work", Work())
    await service.run()

code = run_process(ServiceSettings, serve, name="short", environment=os.environ)
sys.late = AsksWhenItGoes()
sys.exit(code)
"""


@pytest.mark.parametrize("moment", ["early", "late"])
async def test_a_signal_before_the_work_begins_or_after_it_is_over_is_no_crash(
    moment: str,
) -> None:
    servers = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "AMQP_URL": "amqp://[::1]:1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROCESS, moment),
        env={**servers, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_BOUND_S):
        _, errors = await process.communicate()

    assert process.returncode == 0, errors
    assert (b"service_stopped" in errors) == (moment == "late"), errors
