"""wrk: load over HTTP from a script of ours, and what it reports."""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from tools.bench.failing import BenchFailedError

THREADS: Final = 2
_TIMEOUT: Final = "10s"
_MARGIN_S: Final = 60.0

_REQUESTS: Final = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h)")
_QUANTILE: Final = re.compile(r"^\s+(50|90|99)(?:\.000)?%\s+([\d.]+)(us|ms|s|m|h)", re.MULTILINE)
_REFUSED: Final = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SOCKET: Final = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}


@dataclass(frozen=True, slots=True)
class WrkReport:
    """What wrk counted and timed; `cores`: how many of them it took itself."""

    requests: int
    seconds: float
    failed: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    cores: float = 0.0

    @property
    def requests_per_s(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds


def missing() -> str | None:
    """Return why it cannot run here."""
    return None if shutil.which("wrk") else "wrk is not installed (Debian: apt install wrk)"


def parse(output: str) -> WrkReport:
    """Return what wrk printed with --latency; raises BenchFailedError when that is no report."""
    total = _REQUESTS.search(output)
    quantiles = {
        share: float(number) * _MILLISECONDS[unit]
        for share, number, unit in _QUANTILE.findall(output)
    }
    if total is None or quantiles.keys() != {"50", "90", "99"}:
        raise BenchFailedError(f"wrk reports nothing: {output[-300:]}")
    refused = _REFUSED.search(output)
    lost = _SOCKET.search(output)
    return WrkReport(
        requests=int(total[1]),
        seconds=float(total[2]) * _MILLISECONDS[total[3]] / 1000,
        failed=(int(refused[1]) if refused else 0) + (sum(map(int, lost.groups())) if lost else 0),
        p50_ms=quantiles["50"],
        p90_ms=quantiles["90"],
        p99_ms=quantiles["99"],
    )


async def run(url: str, script: str, *, connections: int, seconds: float) -> WrkReport:
    """Load an address by the text of a script; raises BenchFailedError when requests fail.

    wrk keeps `connections` requests in flight, so a slow answer slows it down: its latencies are
    those at saturation, not those of an open loop.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        path = Path(file.name)
        report = await asyncio.to_thread(_blocking, url, path, connections, seconds)
    if report.failed > report.requests / 100:
        raise BenchFailedError(f"{report.failed} of {report.requests} requests failed")
    return report


def _blocking(url: str, script: Path, connections: int, seconds: float) -> WrkReport:
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(
                "wrk",
                "--latency",
                "--threads",
                str(min(THREADS, connections)),
                "--timeout",
                _TIMEOUT,
            ),
            *("--connections", str(connections), "--duration", f"{round(seconds)}s"),
            *("--script", str(script), url),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise BenchFailedError(f"wrk failed: {output[-300:]}")
    found = parse(output)
    cores = (usage.ru_utime + usage.ru_stime) / (time.monotonic() - began)
    return WrkReport(
        found.requests,
        found.seconds,
        found.failed,
        found.p50_ms,
        found.p90_ms,
        found.p99_ms,
        cores=cores,
    )


# Each thread of wrk is a Lua state of its own; a number makes its keys unlike the others'.
_PREAMBLE: Final = """\
local threads = 0
function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end
local sent = 0
function init(args)
  math.randomseed({seed} + thread_number)
end
"""

_POSTING: Final = """\
local wallets = {wallets}
local function body_of()
  local source = math.random(1, #wallets)
  local destination = math.random(1, #wallets - 1)
  if destination >= source then destination = destination + 1 end
  return '"type":"transfer","source_wallet_id":"' .. wallets[source]
    .. '","destination_wallet_id":"' .. wallets[destination]
    .. '","amount":"1.00","currency":"USD"'
end
local function key_of()
  sent = sent + 1
  return "{run}-" .. thread_number .. "-" .. sent
end
local headers = {{
  ["Authorization"] = "Bearer {api_key}",
  ["Content-Type"] = "application/json"
}}
"""

_SINGLE: Final = """\
function request()
  headers["Idempotency-Key"] = key_of()
  return wrk.format("POST", "/v1/transactions", headers, "{" .. body_of() .. "}")
end
"""

_BATCH: Final = """\
function request()
  local items = {{}}
  for number = 1, {size} do
    items[number] = '{{"idempotency_key":"' .. key_of() .. '",' .. body_of() .. "}}"
  end
  local body = '{{"transactions":[' .. table.concat(items, ",") .. "]}}"
  return wrk.format("POST", "/v1/transactions/batch", headers, body)
end
"""

_READING: Final = """\
local ids = {ids}
local headers = {{ ["Authorization"] = "Bearer {api_key}" }}
function request()
  return wrk.format("GET", "{path}" .. ids[math.random(1, #ids)], headers)
end
"""


def posting_script(wallets: Sequence[UUID], api_key: str, *, seed: int) -> str:
    """Return the script of single POSTs, each under a key that nobody used before."""
    return _posting(wallets, api_key, seed) + _SINGLE


def batch_script(wallets: Sequence[UUID], api_key: str, *, size: int, seed: int) -> str:
    """Return the script of batches."""
    return _posting(wallets, api_key, seed) + _BATCH.format(size=size)


def reading_script(ids: Sequence[UUID], api_key: str, *, seed: int) -> str:
    """Return the script that reads transactions in no order."""
    return _reading("/v1/transactions/", ids, api_key, seed)


def wallet_script(ids: Sequence[UUID], api_key: str, *, seed: int) -> str:
    """Return the script that reads wallets in no order."""
    return _reading("/v1/wallets/", ids, api_key, seed)


def _reading(path: str, ids: Sequence[UUID], api_key: str, seed: int) -> str:
    reading = _READING.format(path=path, ids=_table(ids), api_key=api_key)
    return _PREAMBLE.format(seed=seed) + reading


def _posting(wallets: Sequence[UUID], api_key: str, seed: int) -> str:
    posting = _POSTING.format(wallets=_table(wallets), api_key=api_key, run=uuid4().hex)
    return _PREAMBLE.format(seed=seed) + posting


def _table(ids: Sequence[UUID]) -> str:
    return "{" + ",".join(f'"{one}"' for one in ids) + "}"
