"""What a campaign found, as the part of docs/reliability.md that nobody writes by hand. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from tools.chaos.campaign import Ending, RunResult

BEGINS: Final = "<!-- campaign: written by `ackledger chaos --campaign` -->"
ENDS: Final = "<!-- campaign ends -->"
_ENDINGS: Final = ("asked", "posted", "failed")
_LISTED_MAX: Final = 5
"""Breaches of one run that are told one by one."""
_COLUMNS: Final = (
    "fault", "what is claimed", "strikes", "recovered", "in flight", "median", "at most", "bound",
    "runs with a breach",
)  # fmt: skip
"""Recovered: how many within the bound; median and most of the time that took."""

Fault = Mapping[str, Any]


def campaign_page(results: Sequence[RunResult], *, command: str) -> str:
    """Return the page: how many runs ended how, what struck, and every breach."""
    lines = [
        f"`{command}`: {len(results)} runs.",
        "",
        *_endings(results),
        "",
        _totals(results),
        "",
        *_kinds(results),
        "",
        *_shapes(results),
        "",
        *_faults(results),
        "",
        *_troubles(results),
    ]
    return "\n".join(lines).rstrip() + "\n"


def write_page(page: str, path: Path) -> None:
    """Write the page, in a document that has a place for it between the marks there."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGINS in text and ENDS in text:
        head, _, rest = text.partition(BEGINS)
        tail = rest.partition(ENDS)[2]
        page = f"{head}{BEGINS}\n{page}{ENDS}{tail}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def seeds_text(seeds: Iterable[int]) -> str:
    """Return seeds as ranges: 1-3, 7."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seed]
        else:
            parts.append([seed])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _endings(results: Sequence[RunResult]) -> Iterator[str]:
    for ending in Ending:
        seeds = [one.seed for one in results if one.ending is ending]
        if seeds:
            yield f"- {ending.value}: {len(seeds)} (seeds {seeds_text(seeds)})"


def _totals(results: Sequence[RunResult]) -> str:
    counts: Counter[str] = Counter()
    brokers: set[str] = set()
    for one in results:
        counts.update(one.report.get("counts", {}))
        brokers.update(filter(None, [one.report.get("servers", {}).get("rabbitmq")]))
    strikes = sum(len(one.report.get("faults", [])) for one in results)
    figures = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    return f"RabbitMQ {', '.join(sorted(brokers)) or 'unknown'}; {strikes} strikes; {figures}."


def _kinds(results: Sequence[RunResult]) -> Iterator[str]:
    """What the runs were made of: each type, and what may be asked for beside it."""
    runs: Counter[str] = Counter()
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for one in results:
        for name, counts in one.report.get("kinds", {}).items():
            runs[name] += 1
            sums[name].update(counts)
    yield from _table(
        ("what", "in runs", "asked for", "posted", "failed"),
        [
            (name, str(runs[name]), *(f"{sums[name][one]:,}" for one in _ENDINGS))
            for name in sorted(runs)
        ],
    )


def _shapes(results: Sequence[RunResult]) -> Iterator[str]:
    kinds: Counter[tuple[str, int]] = Counter()
    sizes: list[int] = []
    for one in results:
        if one.report:
            shape = one.report["shape"]
            kinds[shape["http"], shape["partitions"]] += 1
            sizes.append(shape["batch_size"])
    yield from _table(
        ("HTTP path", "partitions", "runs"),
        [(http, str(count), str(runs)) for (http, count), runs in sorted(kinds.items())],
    )
    if sizes:
        yield ""
        yield f"Batch sizes {min(sizes)} to {max(sizes)}, {median(sizes):.0f} in the middle."


def _faults(results: Sequence[RunResult]) -> Iterator[str]:
    strikes: dict[str, list[Fault]] = defaultdict(list)
    broken: Counter[str] = Counter()
    for one in results:
        faults = one.report.get("faults", [])
        for fault in faults:
            strikes[fault["fault"]].append(fault)
        if one.ending is Ending.BREACH:
            broken.update({fault["fault"] for fault in faults})
    yield from _table(
        _COLUMNS,
        [(f"`{name}`", *_row(strikes[name]), str(broken[name])) for name in sorted(strikes)],
    )


def _row(strikes: Sequence[Fault]) -> Sequence[str]:
    in_flight = [one["in_flight"] for one in strikes if one["in_flight"] is not None]
    recovered = [one["recovery_s"] for one in strikes if one["recovery_s"] is not None]
    return (
        strikes[0]["claim"],
        str(len(strikes)),
        str(sum(one["is_well"] for one in strikes)),
        f"{median(in_flight):.0f}" if in_flight else "?",
        f"{median(recovered):.1f} s" if recovered else "never",
        f"{max(recovered):.1f} s" if recovered else "never",
        f"{max(one['recovery_bound_s'] for one in strikes):g} s",
    )


def _troubles(results: Sequence[RunResult]) -> Iterator[str]:
    """Every run that was not well, and what it found."""
    for one in results:
        if one.ending is Ending.WELL:
            continue
        faults = one.report.get("faults", [])
        labels = ", ".join(
            f"{fault['fault']}:{fault['target']}" if fault["target"] else fault["fault"]
            for fault in faults
        )
        yield f"- seed {one.seed}, {one.ending.value}: {labels or 'no report'}"
        for fault in faults:
            if fault["trouble"]:
                yield f"  - {fault['fault']}: {fault['trouble']}"
            elif not fault["is_well"]:
                yield f"  - {fault['fault']} recovered {_lateness(fault)}"
        breaches = one.report.get("breaches", [])
        for breach in breaches[:_LISTED_MAX]:
            yield f"  - {breach['invariant']} {breach['subject']}: {breach['detail']}"
        if len(breaches) > _LISTED_MAX:
            yield f"  - and {len(breaches) - _LISTED_MAX} more"


def _lateness(fault: Fault) -> str:
    took_s = fault["recovery_s"]
    took = "never" if took_s is None else f"after {took_s:g} s"
    return f"{took}, bound {fault['recovery_bound_s']:g} s"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
