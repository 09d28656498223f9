"""Results as a run would have found them."""

from typing import Any

from tools.bench.result import BenchResult

CIRCUMSTANCES: dict[str, Any] = {
    "began_at": "2026-01-02T03:04:05+00:00",
    "ended_at": "2026-01-02T04:04:05+00:00",
    "command": "ackledger bench --runs 3 --processors 2",
    "is_quick": False,
    "runs": 3,
    "machine": {
        "processor": "a processor",
        "cores": 2,
        "memory_mb": 4096,
        "kernel": "6.1",
        "busy_before": 0.01,
        "synchronous_write_ms": 1.5,
    },
    "versions": {"Python": "3.11", "PostgreSQL": "18.6"},
    "deployment": {"ingress": 1, "processor": 2, "reconciler": 1},
    "settings_of_laid_backlogs": {},
    "postgres_settings": {"fsync": "on"},
}


def result_of(case: str, **rates: list[float]) -> BenchResult:
    """Return a result with transactions a second of some contestants of one case."""
    result = BenchResult(circumstances=dict(CIRCUMSTANCES))
    for contestant, values in rates.items():
        for value in values:
            result.note(case, contestant, {"transactions_per_s": value})
    return result
