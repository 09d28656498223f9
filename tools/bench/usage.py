"""What processes take: CPU time with all their children, and memory."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

MB = 1024 * 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all below it, those that ended included."""
    try:
        leader = psutil.Process(pid)
        members = [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0.0
    for process in members:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def cpu_nanoseconds(pid: int) -> int:
    """Return what one process alone has computed; finer than `cpu_seconds`. Raises OSError."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def memory_mb(pid: int) -> float:
    """Return the resident memory of one process."""
    return float(psutil.Process(pid).memory_info().rss) / MB


def peak_memory_mb(pid: int) -> float:
    """Return the most resident memory that a process has had; 0 where it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MB
    return 0.0


class CpuMeter:
    """What each of some processes took since a beginning."""

    def __init__(self, pids: Mapping[str, int | None]) -> None:
        self._pids = {name: pid for name, pid in pids.items() if pid is not None}
        self._began = self._now()
        self._began_at = time.monotonic()

    def figures(self, pieces: float) -> dict[str, float]:
        """Return the CPU microseconds a piece of work by process, as `<name>_us`."""
        return {
            f"{name}_us": (seconds - self._began[name]) / pieces * 1e6
            for name, seconds in self._now().items()
        }

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


def busy_share(seconds: float) -> float:
    """Return which share of all cores is taken by anybody, looked at for a while. Blocks."""
    return float(psutil.cpu_percent(interval=seconds)) / 100
