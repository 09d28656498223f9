"""The report: what is written is what is read again."""

from pathlib import Path

import pytest

from cli.failures import UsageError
from tests.tools.bench.results import result_of
from tools.bench.report import write_report
from tools.bench.result import BenchResult, load_result


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = result_of("drain", ours=[1.0, 2.5], theirs=[3.0])
    result.missing["drain: another"] = "not here"
    result.verified = 3
    result.unclean.append("drain, ours: 1 findings")
    write_report(result, tmp_path / "report.json")

    assert load_result(tmp_path / "report.json") == result


def test_a_run_is_clean_until_a_ledger_is_not() -> None:
    result = BenchResult()
    assert result.is_clean
    result.unclean.append("something")
    assert not result.is_clean


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', "not json"])
def test_what_is_no_report_is_refused_in_a_sentence(content: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(UsageError):
        load_result(path)


def test_a_report_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_result(tmp_path / "nowhere.json")
