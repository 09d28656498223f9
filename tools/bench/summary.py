"""The ten lines that the page opens with: what was compared, on what, how often, who won. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tools.bench.cases import names
from tools.bench.demands import NOT_MEASURED, NOT_MET, judge_all, rival_prefix, saturating
from tools.bench.metrics import shown
from tools.bench.result import BenchResult, by_case
from tools.bench.statistics import Spread

_RATE: Final = "transactions_per_s"
_UNMEASURED: Final = "not measured in this run"
_CONSUMERS: Final = (names.AIO_PIKA, names.FASTSTREAM, names.CELERY, names.AIO_PIKA_BATCHED)

Rated = tuple[str, Spread]
"""A contestant, and its transactions a second."""


def summary_lines(results: Sequence[BenchResult]) -> list[str]:
    """Return ten lines; each figure is of the first result that holds its case."""
    cases = by_case(results)
    nothing = BenchResult()
    drain = cases.get(names.DRAIN, nothing)
    titled = {
        "What was compared": _compared(drain),
        "On what": _machine(cases.get(names.DRAIN, results[0])),
        "How often": _samples(results),
        "Transfers announced by ids in batches": _uniform(drain, names.RECORDED),
        "One transfer a message": _uniform(drain, names.SINGLES),
        "One transfer a message, all from one wallet": _contended(drain, names.HOT),
        "One transfer a message, among wallets drawn by Zipf's law": _contended(
            drain, names.ZIPF_1, names.ZIPF_2
        ),
        "Over HTTP, with nobody to compare with": _over_http(
            cases.get(names.END_TO_END, nothing), cases.get(names.LATENCY, nothing)
        ),
        "Reads, and a long history": _reads_and_growth(
            cases.get(names.STATUS, nothing), cases.get(names.GROWTH, nothing)
        ),
        "What was demanded": _demanded(results),
    }
    return [f"**{title}:** {text}." for title, text in titled.items()]


def _compared(drain: BenchResult) -> str:
    known = [names.PGBENCH, *_CONSUMERS]
    found = [one for one, _ in _rivals(drain, [names.PGBENCH, *(f"{one}, " for one in _CONSUMERS)])]
    text = "how fast transfers that wait in a queue are posted, and what clients see over HTTP"
    if not found:
        return f"{text}; no rival was measured"
    text += (
        ". Rivals in the first, each at the best of its tunings, and without an outbox and events: "
        f"{_listed(found)}"
    )
    lacking = [one for one in known if one not in found]
    return f"{text}; {_UNMEASURED}: {_listed(lacking)}" if lacking else text


def _machine(result: BenchResult) -> str:
    machine, versions = result.circumstances["machine"], result.circumstances["versions"]
    servers = [
        f"{name} {versions[name]}" for name in ("PostgreSQL", "RabbitMQ") if name in versions
    ]
    return (
        f"{machine['cores']} cores of {machine['processor']} with {machine['memory_mb']:,} MB for "
        f"everything, load generators too; {' and '.join(servers)}, with synchronous commits and "
        "confirms"
    )


def _samples(results: Sequence[BenchResult]) -> str:
    runs = sorted({result.circumstances["runs"] for result in results})
    days = sorted({result.circumstances["began_at"][:10] for result in results})
    verified = sum(result.verified for result in results)
    unclean = sum(len(result.unclean) for result in results)
    books = f"**{unclean} did not verify clean**" if unclean else "every one clean"
    text = (
        f"{' and '.join(map(str, runs))} {'sample' if runs == [1] else 'samples'} of each in turns "
        f"({', '.join(days)}), of which the median counts; {verified} ledgers verified after their "
        f"samples, {books}"
    )
    if any(result.circumstances["is_quick"] for result in results):
        text += "; **a quick run: its figures mean nothing**"
    return text


def _uniform(drain: BenchResult, kind: str) -> str:
    prefixes = [names.PGBENCH, *(rival_prefix(one, names.UNIFORM) for one in _CONSUMERS)]
    return _against(drain, names.of(kind, names.UNIFORM), prefixes)


def _contended(drain: BenchResult, *patterns: str) -> str:
    """Return how it goes where many transfers meet in one wallet, one transfer a message."""
    parts = []
    for pattern in patterns:
        contestant = names.of(names.SINGLES, pattern)
        if drain.median(names.DRAIN, contestant, _RATE) is None:
            continue
        prefixes = [rival_prefix(one, pattern) for one in _CONSUMERS]
        text = _against(drain, contestant, prefixes)
        announced = drain.median(names.DRAIN, names.of(names.RECORDED, pattern), _RATE)
        if announced is not None:
            text += f" (announced by ids in batches: {announced:,.0f}/s)"
        parts.append(text if len(patterns) == 1 else f"{pattern}: {text}")
    return "; ".join(parts) or _UNMEASURED


def _against(drain: BenchResult, contestant: str, prefixes: Iterable[str]) -> str:
    """Return our rate beside each rival's best, and the verdict."""
    ours = drain.spread(names.DRAIN, contestant, _RATE)
    if ours is None:
        return _UNMEASURED
    rivals = _rivals(drain, prefixes)
    if not rivals:
        return f"{ours.median:,.0f}/s; no rival was measured"
    beside = ", ".join(
        f"{_ratio(ours.median / rate.median)} × {name} ({rate.median:,.0f}/s)"  # noqa: RUF001
        for name, rate in rivals
    )
    return f"{ours.median:,.0f}/s, {beside}: {_verdict(ours, rivals)}"


def _rivals(drain: BenchResult, prefixes: Iterable[str]) -> list[Rated]:
    """Return each rival that was measured, at the tuning whose median is best."""
    found = []
    for prefix in prefixes:
        rates = [
            rate
            for one in drain.contestants(names.DRAIN)
            if one.startswith(prefix) and (rate := drain.spread(names.DRAIN, one, _RATE))
        ]
        if rates:
            found.append((prefix.split(", ")[0], max(rates, key=lambda rate: rate.median)))
    return found


def _verdict(ours: Spread, rivals: Sequence[Rated]) -> str:
    """Say who won: by all samples, since medians of samples that overlap tell nobody apart."""
    lost = [name for name, rate in rivals if ours.most < rate.least]
    open_ = [name for name, rate in rivals if ours.least <= rate.most and name not in lost]
    parts = []
    if lost:
        parts.append(f"**lost to {_listed(lost)}**")
    if open_:
        parts.append(f"not told apart from {_listed(open_)}, whose samples overlap ours")
    if not parts:
        return "won" if len(rivals) == 1 else "won against all of them"
    won = [name for name, _ in rivals if name not in lost and name not in open_]
    return ", ".join([*([f"won against {_listed(won)}"] if won else []), *parts])


def _over_http(end_to_end: BenchResult, latency: BenchResult) -> str:
    parts = []
    if (contestant := saturating(end_to_end)) is not None:
        rate = end_to_end.median(names.END_TO_END, contestant, "completed_per_s")
        slowest = end_to_end.median(names.END_TO_END, contestant, "p99_ms")
        parts.append(
            f"{_shown('completed_per_s', rate)} single POSTs completed a second over {contestant}"
            f" (a POST's p99 {_shown('p99_ms', slowest)} ms)"
        )
    usual = names.at_rate(200)
    if (middle := latency.median(names.LATENCY, usual, "p50_ms")) is not None:
        slowest = latency.median(names.LATENCY, usual, "p99_ms")
        parts.append(
            f"at {usual} a client has the final answer after {_shown('p50_ms', middle)} ms "
            f"(p99 {_shown('p99_ms', slowest)} ms)"
        )
    return "; ".join(parts) or _UNMEASURED


def _shown(metric: str, value: float | None) -> str:
    return "?" if value is None else shown(metric, value)


def _reads_and_growth(status: BenchResult, growth: BenchResult) -> str:
    parts = []
    rates = [
        status.median(names.STATUS, one, "requests_per_s")
        for one in (names.GATHERED, names.ONE_QUERY_EACH)
    ]
    if rates[0] and rates[1]:
        parts.append(
            f"{rates[0]:,.0f} reads of a transaction a second, {_ratio(rates[0] / rates[1])} times "
            "as many as with one query each"
        )
    steps = list(_growth_rates(growth))
    if len(steps) > 1:
        (_, first), (longest, last) = steps[0], steps[-1]
        parts.append(
            f"a history of {longest} lets a backlog drain {_ratio(last / first)} times as fast"
        )
    return "; ".join(parts) or _UNMEASURED


def _growth_rates(growth: BenchResult) -> Iterator[tuple[str, float]]:
    for step in growth.contestants(names.GROWTH):
        if (rate := growth.median(names.GROWTH, step, _RATE)) is not None:
            yield step, rate


def _demanded(results: Sequence[BenchResult]) -> str:
    judged = [one for one in judge_all(results) if one.verdict != NOT_MEASURED]
    if not judged:
        return _UNMEASURED
    missed = [one.demand.what for one in judged if one.verdict == NOT_MET]
    if not missed:
        return f"all {len(judged)} demands that were measured are met"
    return (
        f"{len(judged) - len(missed)} of {len(judged)} demands are met; **not met:** "
        f"{'; '.join(missed)}"
    )


def _ratio(value: float) -> str:
    """Return a ratio with as many decimals as tell it from others of its size."""
    decimals = 2 if value < 2 else 1 if value < 10 else 0  # noqa: PLR2004  # by powers of ten
    return f"{value:.{decimals}f}"


def _listed(items: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
