"""The shape of a chaos run: which code runs, and under what load. Pure: a seed has one shape."""

import math
import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from tools.chaos.pressure import Pressure

PARTITIONS: Final = (1, 4)
BATCH_SIZE_LEAST: Final = 4
BATCH_SIZE_MOST: Final = 1000
_GROUP_SIZES: Final = (16, 64, 256)
_RATES_PER_S: Final = (15.0, 25.0, 40.0)
"""Acts per second. Four runs at once share two cores with 24 processes and 12 servers."""
_BATCHES_A_BURST: Final = 3
"""One is posted, one is decided and one is read, all at once."""
_BURST_LEAST: Final = 24
_BURST_MOST: Final = 2400
_BURST_PACE_PER_S: Final = 90.0
"""What bursts come to in the long run: posted many times faster, so that a backlog forms anew."""
_BATCHES_PER_S: Final = 3
"""And no more than so many full batches: small ones are a commit for few transactions each."""
_PAUSE_LEAST_S: Final = 1.5


class HttpPath(StrEnum):
    """Which code of the ingress answers the common calls."""

    FAST = "fast"
    """The fast path, as it usually is."""
    AIOHTTP = "aiohttp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line asks of the shape; None leaves it to the seed."""

    http: HttpPath | None = None
    partitions: int | None = None
    batch_size: int | None = None
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A drawn shape. `batch_size` and `group_size` are transactions."""

    http: HttpPath
    partitions: int
    batch_size: int
    group_size: int
    rate_per_s: float
    pressure: Pressure

    @property
    def settings(self) -> dict[str, str]:
        """The environment of every process in a run of this shape."""
        return {
            "ACKLEDGER_PARTITIONS": str(self.partitions),
            "ACKLEDGER_BATCH_SIZE": str(self.batch_size),
            "ACKLEDGER_GROUP_SIZE": str(self.group_size),
            "ACKLEDGER_FAST_PATH": str(self.http is HttpPath.FAST).lower(),
        }

    def __str__(self) -> str:
        return (
            f"http {self.http.value}, partitions {self.partitions}, batch size {self.batch_size}, "
            f"group size {self.group_size}, {self.rate_per_s:g} acts a second, "
            f"{self.pressure.burst} in a burst every {self.pressure.burst_interval_s:.1f} s"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as the report holds it."""
        return {
            "http": self.http.value,
            "partitions": self.partitions,
            "batch_size": self.batch_size,
            "group_size": self.group_size,
            "rate_per_s": self.rate_per_s,
            "burst": self.pressure.burst,
            "burst_interval_s": round(self.pressure.burst_interval_s, 1),
        }


def draw_shape(seed: int, given: Given | None = None) -> Shape:
    """Return a seed's shape; what is given replaces what was drawn, and nothing else."""
    chance = random.Random(f"{seed}/shape")
    exponent = chance.uniform(math.log(BATCH_SIZE_LEAST), math.log(BATCH_SIZE_MOST))
    drawn = Shape(
        http=chance.choice(list(HttpPath)),
        partitions=chance.choice(PARTITIONS),
        batch_size=round(math.exp(exponent)),
        group_size=chance.choice(_GROUP_SIZES),
        rate_per_s=chance.choice(_RATES_PER_S),
        pressure=Pressure(),
    )
    given = given or Given()
    wanted = replace(
        drawn,
        http=given.http or drawn.http,
        partitions=given.partitions or drawn.partitions,
        batch_size=given.batch_size or drawn.batch_size,
        rate_per_s=given.rate_per_s or drawn.rate_per_s,
    )
    return replace(wanted, pressure=_pressure(wanted.batch_size))


def _pressure(batch_size: int) -> Pressure:
    """Return bursts that fill some batches of this size, as often as two cores bear it."""
    burst = min(max(_BATCHES_A_BURST * batch_size, _BURST_LEAST), _BURST_MOST)
    pace_per_s = min(_BURST_PACE_PER_S, float(_BATCHES_PER_S * batch_size))
    return Pressure(burst=burst, burst_interval_s=max(burst / pace_per_s, _PAUSE_LEAST_S))
