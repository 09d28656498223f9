"""Fault points: an order strikes once, in one process; without an order nothing happens."""

import asyncio
from pathlib import Path

import pytest

from runtime.service.fault_points import (
    Fault,
    FaultPoint,
    FaultPoints,
    OrderedFaultPoints,
    fault_points_in,
)


def order(directory: Path, point: FaultPoint, fault: Fault) -> None:
    (directory / point.value).write_text(fault.value, encoding="utf-8")


async def test_nothing_happens_without_an_order(tmp_path: Path) -> None:
    points = fault_points_in(tmp_path)
    assert points is not None

    for point in FaultPoint:
        await points.reach(point)

    assert (fault_points_in(None), _traces(tmp_path)) == (None, [])


async def test_an_order_strikes_once_and_leaves_its_trace(tmp_path: Path) -> None:
    order(tmp_path, FaultPoint.PROCESSOR_COMMITTED, Fault.CANCEL)
    points = OrderedFaultPoints(tmp_path)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(_reach_and_wait(points, FaultPoint.PROCESSOR_COMMITTED))
    await asyncio.create_task(_reach_and_wait(points, FaultPoint.PROCESSOR_COMMITTED))

    assert _traces(tmp_path) == ["processor.committed.struck"]


async def test_an_order_for_another_point_waits(tmp_path: Path) -> None:
    order(tmp_path, FaultPoint.RELAY_PUBLISHED, Fault.KILL)

    await OrderedFaultPoints(tmp_path).reach(FaultPoint.PROCESSOR_COMMITTED)

    assert _traces(tmp_path) == ["relay.published"]


async def test_of_two_processes_one_is_struck(tmp_path: Path) -> None:
    order(tmp_path, FaultPoint.INGRESS_COMMITTED, Fault.CANCEL)
    tasks = [
        asyncio.create_task(
            _reach_and_wait(OrderedFaultPoints(tmp_path), FaultPoint.INGRESS_COMMITTED)
        )
        for _ in range(2)
    ]

    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(one, asyncio.CancelledError) for one in ended].count(True) == 1


def _traces(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def _reach_and_wait(points: FaultPoints, point: FaultPoint) -> None:
    """Whatever is awaited next feels a cancellation, as a COMMIT would."""
    await points.reach(point)
    await asyncio.sleep(0)
