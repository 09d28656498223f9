"""One look at every process: its metrics and its readiness, or why there was no answer."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from runtime.resilience.reasons import reason_of

_ANSWER_IN_S: Final = 3.0
"""More than a readiness check may take; a process that is slower is shown as silent."""
_LOST: Final = (aiohttp.ClientError, TimeoutError, OSError)

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The samples of one process by name and labels."""

    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels; 0 without any."""
        wanted = labels.items()
        return sum(
            value for found, value in self.samples.get(name, {}).items() if wanted <= set(found)
        )


@dataclass(frozen=True, slots=True)
class ProcessLook:
    """What one process answered. `status` is its own word, or 'silent'."""

    status: str
    dependencies: Mapping[str, str] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every process at one moment of time.monotonic."""

    at: float
    processes: Mapping[str, ProcessLook]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all processes."""
        return sum(look.metrics.total(name, **labels) for look in self.processes.values())

    def largest(self, name: str) -> float:
        """Return the largest of the processes' sums: of what several of them see alike."""
        return max((look.metrics.total(name) for look in self.processes.values()), default=0.0)


def parse_metrics(text: str) -> Metrics:
    """Return the samples of a Prometheus text; raises ValueError when it is none. Pure."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            samples.setdefault(sample.name, {})[labels] = sample.value
    return Metrics(samples)


async def take_snapshot(session: aiohttp.ClientSession, urls: Mapping[str, str]) -> Snapshot:
    """Ask all processes at once; never raises for one that does not answer."""
    looks = await asyncio.gather(*(_look(session, url) for url in urls.values()))
    return Snapshot(time.monotonic(), dict(zip(urls, looks, strict=True)))


async def _look(session: aiohttp.ClientSession, url: str) -> ProcessLook:
    try:
        async with asyncio.timeout(_ANSWER_IN_S):
            readiness, metrics = await asyncio.gather(
                _read(session, f"{url}/readyz"), _read(session, f"{url}/metrics")
            )
        found: dict[str, Any] = orjson.loads(readiness)
        return ProcessLook(
            status=str(found["status"]),
            dependencies={
                name: str(state["state"]) for name, state in found["dependencies"].items()
            },
            metrics=parse_metrics(metrics.decode()),
        )
    except _LOST as error:
        return ProcessLook("silent", trouble=reason_of(error))
    except (ValueError, KeyError, TypeError) as error:
        return ProcessLook("strange", trouble=f"no status port of ours: {error!r}")


async def _read(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as response:
        return await response.read()
