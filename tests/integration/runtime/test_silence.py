"""A system that has nothing to do says nothing."""

from pathlib import Path

import aiohttp
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.ingress.serving import open_doors
from tests.support import eventually
from tools.stack import Stack
from tools.system import ONE_OF_EACH, System

pytestmark = pytest.mark.long

_QUIET_S = 60
"""After which a consumer without a delivery begins anew: everything periodic has had its turn."""


async def _rebuilt(session: aiohttp.ClientSession, system: System) -> float:
    async with session.get(f"{system.status_urls['processor']}/metrics") as answer:
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ackledger_processor_consumers_rebuilt_total"
        and sample.labels == {"reason": "quiet"}
    )


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


async def test_a_system_without_traffic_logs_nothing_at_info(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All of it is watched for as long as the longest of its periodic works takes to come round."""
    async with (
        open_doors(
            stack, template, tmp_path_factory.mktemp("system"), instances=ONE_OF_EACH, settings={}
        ) as doors,
        aiohttp.ClientSession() as session,
    ):
        system = doors.system

        async def came_round(times: int) -> bool:
            return await _rebuilt(session, system) >= times

        await eventually(lambda: came_round(1), what="a quiet minute", within_s=2 * _QUIET_S)
        before = {name: len(_lines(system.log(name))) for name in system.status_urls}
        await eventually(lambda: came_round(2), what="another", within_s=2 * _QUIET_S)
        said = {
            name: [orjson.loads(line)["event"] for line in _lines(system.log(name))[count:]]
            for name, count in before.items()
        }

    assert said == {name: [] for name in before}
