"""What a chaos run found: each fault, the invariants, and whether all of it is well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.chaos.invariants import Breach
from tools.chaos.schedule import PlannedFault
from tools.chaos.shape import Shape


@dataclass(slots=True)
class StruckFault:
    """How one fault went. Times are seconds; `in_flight` None: PostgreSQL could not be asked."""

    planned: PlannedFault
    claim: str
    recovery_bound_s: float
    began_s: float = 0.0
    struck_after_s: float | None = None
    lasted_s: float | None = None
    in_flight: int | None = None
    recovery_s: float | None = None
    trouble: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether it struck, and was recovered from within its bound."""
        return (
            self.trouble is None
            and self.recovery_s is not None
            and self.recovery_s <= self.recovery_bound_s
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as the report holds it."""
        return {
            "fault": self.planned.name,
            "target": self.planned.target,
            "claim": self.claim,
            "planned_at_s": self.planned.at_s,
            "began_s": _rounded(self.began_s),
            "struck_after_s": _rounded(self.struck_after_s),
            "lasted_s": _rounded(self.lasted_s),
            "in_flight": self.in_flight,
            "recovery_s": _rounded(self.recovery_s),
            "recovery_bound_s": self.recovery_bound_s,
            "trouble": self.trouble,
            "is_well": self.is_well,
        }


@dataclass(slots=True)
class ChaosResult:
    """A whole run. `drained_s` None: something was not final within the bound."""

    seed: int
    seconds: float
    shape: Shape
    bounds_scale: float
    plan: Sequence[PlannedFault]
    skipped: Mapping[str, str]
    faults: list[StruckFault] = field(default_factory=list)
    promises: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    breaches: Sequence[Breach] = ()
    unresolved: int = 0
    late: int = 0
    crossed: int = 0
    shed: int = 0
    revivals: Mapping[str, int] = field(default_factory=dict)
    drained_s: float | None = None
    is_every_event_read: bool = False
    followed_s: float | None = None
    """From the last event in a queue to the last at whoever follows; None: not within the bound."""
    delivered_s: float | None = None
    """From then on to the last at its webhook."""
    heard: Mapping[str, int] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)
    spent_s: dict[str, float] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        """Whether every fault struck and was recovered from, and no invariant is broken."""
        return (
            all(fault.is_well for fault in self.faults)
            and len(self.faults) == len(self.plan)
            and not self.breaches
            and self.unresolved == 0
            and self.drained_s is not None
            and self.is_every_event_read
            and self.followed_s is not None
            and self.delivered_s is not None
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report."""
        return {
            "is_well": self.is_well,
            "seed": self.seed,
            "seconds": self.seconds,
            "shape": self.shape.to_json(),
            "bounds_scale": self.bounds_scale,
            "faults": [fault.to_json() for fault in self.faults],
            "skipped": dict(self.skipped),
            "promises": dict(self.promises),
            "counts": dict(self.counts),
            "kinds": {name: dict(counts) for name, counts in self.kinds.items()},
            "breaches": [
                {"invariant": one.invariant, "subject": one.subject, "detail": one.detail}
                for one in self.breaches
            ],
            "unresolved": self.unresolved,
            "late": self.late,
            "crossed": self.crossed,
            "shed": self.shed,
            "revivals": dict(self.revivals),
            "drained_s": _rounded(self.drained_s),
            "is_every_event_read": self.is_every_event_read,
            "followed_s": _rounded(self.followed_s),
            "delivered_s": _rounded(self.delivered_s),
            "heard": dict(self.heard),
            "servers": dict(self.servers),
            "spent_s": {step: _rounded(spent_s) for step, spent_s in self.spent_s.items()},
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
