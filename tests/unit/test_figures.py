"""The figures that the console keeps of running processes: bounded, and in columns for charts."""

from console.figures import DRAWN, KEPT, Figures
from runtime.watching.reading import ProcessLook, Snapshot, parse_metrics


def _snapshot(at: float, accepted: int) -> Snapshot:
    text = f'ackledger_ingress_submissions_total{{standing="new"}} {accepted}\n'
    return Snapshot(at, {"ingress": ProcessLook("ready", metrics=parse_metrics(text))})


def _figures(looks: int) -> Figures:
    figures = Figures({"ingress": "http://127.0.0.1:1"})
    for number in range(looks):
        figures.add(_snapshot(float(number), number * 10), at=1_000.0 + number)
    return figures


def test_one_look_is_no_reading_yet() -> None:
    figures = _figures(1)

    assert figures.now is None
    assert figures.rows() == []
    assert figures.to_json()["at"] == []
    assert figures.processes["ingress"].status == "ready"


def test_each_further_look_is_a_point_of_every_column() -> None:
    found = _figures(4).to_json()

    assert found["at"] == [1001.0, 1002.0, 1003.0]
    assert set(found["columns"]) == set(DRAWN)
    assert found["columns"]["accepted_per_s"] == [10.0, 10.0, 10.0]
    assert found["columns"]["request_p50_ms"] == [None, None, None]


def test_only_so_many_readings_are_kept_and_few_are_rows() -> None:
    figures = _figures(KEPT + 100)

    assert len(figures.to_json()["at"]) == KEPT
    rows = figures.rows()
    assert len(rows) == 10
    assert rows[0]["at"] > rows[1]["at"]


def test_without_status_ports_there_are_no_figures() -> None:
    assert not Figures({}).is_kept
