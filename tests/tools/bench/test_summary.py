"""The ten lines at the top: who won and who lost, and nothing that was not measured."""

from pathlib import Path
from typing import Final

import pytest

from tests.tools.bench.results import CIRCUMSTANCES, result_of
from tools.bench.cases import names
from tools.bench.demands import rival_prefix
from tools.bench.page import sections, with_section
from tools.bench.result import BenchResult, load_result
from tools.bench.summary import summary_lines

_DOCS: Final = Path(__file__).parents[3] / "docs"
_SINGLES: Final = names.of(names.SINGLES, names.UNIFORM)
_BATCHED: Final = rival_prefix(names.AIO_PIKA_BATCHED, names.UNIFORM)


def _line(results: list[BenchResult], title: str) -> str:
    [line] = [one for one in summary_lines(results) if one.startswith(f"**{title}:**")]
    return line.partition(":** ")[2]


def _beside(ours: list[float], **theirs: list[float]) -> str:
    rivals = {f"{_BATCHED}{tuning}": rates for tuning, rates in theirs.items()}
    result = result_of(names.DRAIN, **{_SINGLES: ours}, **rivals)
    return _line([result], "One transfer a message")


def test_a_rival_counts_at_the_best_of_its_tunings() -> None:
    assert _beside([3_000.0], slow=[1_000.0], best=[2_000.0], middling=[1_500.0]) == (
        "3,000/s, 1.50 × aio-pika + asyncpg in batches (2,000/s): won."  # noqa: RUF001
    )


def test_who_is_slower_lost_and_the_page_says_so_in_bold() -> None:
    text = _beside([800.0, 900.0, 700.0], best=[1_000.0, 1_100.0, 950.0])

    assert text.startswith("800/s, 0.80 × ")  # noqa: RUF001
    assert text.endswith("**lost to aio-pika + asyncpg in batches**.")


def test_samples_that_overlap_tell_nobody_apart() -> None:
    text = _beside([1_000.0, 1_200.0, 900.0], best=[800.0, 950.0, 700.0])

    assert "not told apart from aio-pika + asyncpg in batches" in text
    assert "won" not in text
    assert "lost" not in text


def test_those_that_were_beaten_are_named_beside_those_that_were_not() -> None:
    result = result_of(
        names.DRAIN,
        **{
            _SINGLES: [1_000.0],
            f"{names.PGBENCH}, 4 clients": [500.0],
            f"{_BATCHED}batch 500": [2_000.0],
        },
    )

    assert _line([result], "One transfer a message").endswith(
        ": won against pgbench TPC-B, **lost to aio-pika + asyncpg in batches**."
    )


@pytest.mark.parametrize("pattern", [names.ZIPF_1, names.ZIPF_2])
def test_a_rival_is_compared_with_the_same_wallets_alone(pattern: str) -> None:
    result = result_of(
        names.DRAIN,
        **{
            names.of(names.SINGLES, pattern): [300.0],
            names.of(names.RECORDED, pattern): [900.0],
            f"{rival_prefix(names.AIO_PIKA_BATCHED, pattern)}batch 500": [100.0],
            f"{_BATCHED}batch 500": [5_000.0],
        },
    )

    text = _line([result], "One transfer a message, among wallets drawn by Zipf's law")

    assert text == (
        f"{pattern}: 300/s, 3.0 × aio-pika + asyncpg in batches (100/s): won "  # noqa: RUF001
        "(announced by ids in batches: 900/s)."
    )


def test_ten_lines_open_the_page_whatever_was_measured() -> None:
    nothing = BenchResult(circumstances=dict(CIRCUMSTANCES))

    lines = summary_lines([nothing])

    assert len(lines) == 10
    assert sum(line.endswith("not measured in this run.") for line in lines) == 7
    assert "no rival was measured" in lines[0]


def test_what_was_compared_names_the_rivals_that_were_not_there() -> None:
    result = result_of(names.DRAIN, **{f"{names.PGBENCH}, 4 clients": [1.0]})

    text = _line([result], "What was compared")

    assert ": pgbench TPC-B; not measured in this run: aio-pika + asyncpg, " in text


def test_demands_are_counted_over_all_reports_and_those_not_met_are_named() -> None:
    drain = result_of(
        names.DRAIN,
        **{names.of(names.RECORDED, names.UNIFORM): [10.0], f"{names.PGBENCH}, 4": [5.0]},
    )
    growth = result_of(names.GROWTH, short=[100.0], long=[90.0])

    text = _line([drain, growth], "What was demanded")

    assert text == (
        "1 of 2 demands are met; **not met:** drain, batch messages ÷ pgbench TPC-B best."
    )


def test_a_quick_run_and_books_that_do_not_fit_cannot_be_overlooked() -> None:
    result = BenchResult(circumstances={**CIRCUMSTANCES, "is_quick": True, "runs": 1})
    result.verified = 3
    result.unclean.append("drain, ours: 1 findings")

    text = _line([result], "How often")

    assert text.startswith("1 sample of each")
    assert "3 ledgers verified after their samples, **1 did not verify clean**" in text
    assert "**a quick run: its figures mean nothing**" in text


def test_the_page_opens_with_the_lines_of_its_own_reports() -> None:
    page = (_DOCS / "performance.md").read_text(encoding="utf-8")
    folder = _DOCS / "performance"
    # The newest first; what it did not measure is an earlier one's.
    reports = [folder / "report.json", *sorted(folder.glob("report-20*.json"), reverse=True)]
    found = dict(sections([load_result(one) for one in reports]))

    assert page.startswith("# Performance\n\n<!-- bench:summary -->\n")
    assert with_section(page, "summary", found["summary"]) == page
