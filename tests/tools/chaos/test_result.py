"""The verdict of a run: well only when all of it is."""

from typing import Any

import pytest

from tools.chaos.invariants import Breach
from tools.chaos.result import ChaosResult, StruckFault
from tools.chaos.schedule import PlannedFault
from tools.chaos.shape import draw_shape

_PLANNED = PlannedFault(3.0, "broker-killed", 1.0)


def _fault(**changes: Any) -> StruckFault:
    fields = {"planned": _PLANNED, "claim": "", "recovery_bound_s": 10.0, "recovery_s": 0.5}
    return StruckFault(**{**fields, **changes})


def _result(*faults: StruckFault, **changes: Any) -> ChaosResult:
    fields: dict[str, Any] = {
        "seed": 1,
        "seconds": 30.0,
        "shape": draw_shape(1),
        "bounds_scale": 1.0,
        "plan": [_PLANNED],
        "skipped": {},
        "faults": list(faults or [_fault()]),
        "drained_s": 1.0,
        "is_every_event_read": True,
        "followed_s": 0.2,
        "delivered_s": 1.5,
    }
    return ChaosResult(**{**fields, **changes})


def test_a_run_in_which_everything_held_is_well() -> None:
    assert _result().is_well


@pytest.mark.parametrize(
    "changes",
    [
        {"recovery_s": None},
        {"recovery_s": 10.1},
        {"trouble": "nothing came to that point"},
    ],
)
def test_a_fault_that_did_not_strike_or_lasts_on_is_not_well(changes: dict[str, Any]) -> None:
    assert not _result(_fault(**changes)).is_well


@pytest.mark.parametrize(
    "changes",
    [
        {"breaches": [Breach("C", "wallet", "1 is missing")]},
        {"unresolved": 1},
        {"drained_s": None},
        {"is_every_event_read": False},
        {"followed_s": None},
        {"delivered_s": None},
        {"plan": [_PLANNED, _PLANNED]},
    ],
)
def test_one_broken_promise_is_a_run_that_is_not_well(changes: dict[str, Any]) -> None:
    assert not _result(**changes).is_well
