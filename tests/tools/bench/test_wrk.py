"""wrk: its report is read whole, and its scripts are what its Lua takes."""

from uuid import UUID

import pytest

from tools.bench import wrk
from tools.bench.failing import BenchFailedError

_OUTPUT = """\
Running 10s test @ http://127.0.0.1:1
  2 threads and 200 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    23.87ms    9.02ms 130.92ms   85.79%
    Req/Sec     4.26k   594.75     5.41k    70.50%
  Latency Distribution
     50%  950.00us
     75%   26.65ms
     90%   32.30ms
     99%    1.20s
  84862 requests in 10.03s, 81.60MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 40
Requests/sec:   8463.75
Transfer/sec:      8.14MB
"""
_IDS = [UUID(int=1), UUID(int=2)]


def test_a_report_is_read_with_every_unit_of_time() -> None:
    report = wrk.parse(_OUTPUT)

    assert report.p50_ms == pytest.approx(0.95)
    assert (report.p90_ms, report.p99_ms) == (32.3, 1200.0)
    assert (report.requests, report.seconds) == (84862, 10.03)


def test_refused_and_lost_requests_are_counted_together() -> None:
    assert wrk.parse(_OUTPUT).failed == 43
    healthy = "\n".join(_OUTPUT.splitlines()[:-4])
    assert wrk.parse(healthy).failed == 0


def test_what_is_no_report_is_not_taken_for_one() -> None:
    with pytest.raises(BenchFailedError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_two_scripts_never_use_the_same_keys() -> None:
    first, second = (wrk.posting_script(_IDS, "key", seed=1) for _ in range(2))

    assert first != second


def test_a_batch_s_braces_reach_lua_as_they_are_meant() -> None:
    script = wrk.batch_script(_IDS, "key", size=500, seed=7)

    assert "for number = 1, 500 do" in script
    assert """'{"transactions":[' .. table.concat(items, ",") .. "]}\"""" in script
    assert "{{" not in script


def test_a_reading_script_names_every_id() -> None:
    script = wrk.reading_script(_IDS, "secret", seed=3)

    assert all(str(one) in script for one in _IDS)
    assert "Bearer secret" in script
