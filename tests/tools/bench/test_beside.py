"""The table of this tree beside another one."""

import pytest

from tools.bench.beside import CPU, DEMANDS, BesideDemand, Compared, beside_table

_DRAIN = "batch messages (recorded ids), uniform"
_RATE = BesideDemand("drain", _DRAIN, "transactions_per_s", 1.8, 2.5)
_TIME = BesideDemand("latency", "200/s", "p50_ms", 0.6, 0.35)


@pytest.mark.parametrize(
    ("demand", "value", "verdict"),
    [
        (_RATE, 1.79, "not met"),
        (_RATE, 1.8, "met"),
        (_RATE, 2.5, "aim met"),
        (_TIME, 0.61, "not met"),
        (_TIME, 0.6, "met"),
        (_TIME, 0.35, "aim met"),
    ],
)
def test_more_of_a_rate_and_less_of_all_else_is_better(
    demand: BesideDemand, value: float, verdict: str
) -> None:
    assert demand.verdict(value) == verdict


def test_a_row_has_both_medians_their_ratio_and_their_processor_time() -> None:
    compared: Compared = {
        (_DRAIN, "transactions_per_s"): ([20_000, 21_000, 10_000], [40_000, 41_000, 39_000]),
        (_DRAIN, CPU): ([60.0, 57.2, 50.0], [39.4, 40.0, 39.0]),
        ("idle", "cores"): ([0.01], [0.04]),
    }

    heading, rows = beside_table(compared)

    rows_by_name = {row[0]: dict(zip(heading[1:5], row[1:5], strict=True)) for row in rows}
    assert rows_by_name["drain, batch messages, nobody bound"] == {
        "unit": "transactions/s",
        "before": "20,000 (10,000–21,000)",  # noqa: RUF001
        "now": "40,000 (39,000–41,000)",  # noqa: RUF001
        "ratio": "2.00",
    }
    assert rows[0][5:] == ["≥ 1.8", "met", "57 → 39"]
    # A bound on the figure itself, whatever the other tree has.
    [idle] = [row for row in rows if row[0] == "idle system"]
    assert idle[2:] == ["0.01", "0.04", "4.00", "≤ 0.06", "met", ""]


def test_what_was_not_measured_is_said() -> None:
    _, rows = beside_table({})

    assert len(rows) == len(DEMANDS)
    assert {row[6] for row in rows} == {"not measured"}
