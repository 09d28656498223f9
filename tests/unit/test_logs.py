"""What a process writes: a program of its own, whose standard error is read whole."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from runtime.service.malformed import LINES_PER_S_MAX
from runtime.service.settings import LogFormat

_ROOT = Path(__file__).parents[2]
_KEY = "ack_" + "Zk3-_q" * 7 + "x"
_PASSWORD = "correct-horse-battery"  # a made one, to be looked for

_PROGRAM = """
import logging, sys
import structlog
from aiohttp.http_exceptions import BadStatusLine, InvalidHeader
from prometheus_client import REGISTRY
from runtime.service.logs import configure_logging
from runtime.service.aiohttp_serving import MalformedRequests
from runtime.service.settings import ProcessorSettings, load_settings

key, password, form, level = sys.argv[1:]
settings = load_settings(ProcessorSettings, {
    "DATABASE_URL": f"postgresql://ledger:{password}@db/books", "AMQP_URL": "amqp://a@b/",
    "ACKLEDGER_LOG_FORMAT": form, "ACKLEDGER_LOG_LEVEL": level,
})
configure_logging(settings, service="test")
MalformedRequests().install()
log = structlog.get_logger()

def call(local_header):
    message = {"authorization": local_header}
    raise RuntimeError(f"cannot read {message} at amqp://a:{password}@b/ and {password}")

try:
    call(f"Bearer {key}")
except RuntimeError as error:
    log.error("ours", exc_info=error, error=repr(error), headers={"x": key})
    log.error("again", exc_info=True)
    logging.getLogger("aiohttp.server").exception("Unhandled exception", exc_info=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved: %s", password,
        exc_info=error)
for number in range(1000):
    header = f"Authorization: Bearer {key}"
    try:
        raise InvalidHeader(header) if number % 2 else BadStatusLine(header)
    except Exception as error:
        logging.getLogger("aiohttp.server").exception("Error handling", exc_info=error)
        # What aiohttp does where the first line of a connection has no known method.
        logging.getLogger("aiohttp.server").debug("Error handling", exc_info=error)
logging.getLogger("aiohttp.server").debug("Ignored premature client disconnection")
counted = REGISTRY.get_sample_value("ackledger_http_malformed_requests_total")
sys.stdout.write(str(counted))
"""


def _written(form: LogFormat, level: str) -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, _KEY, _PASSWORD, form.value, level],
        capture_output=True,
        check=True,
        text=True,
        env={"PYTHONPATH": str(_ROOT)},
        timeout=60,
    )
    return done.stderr.splitlines(), done.stdout


@pytest.mark.parametrize("form", LogFormat)
@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_log_line_holds_a_local_or_a_secret(form: LogFormat, level: str) -> None:
    lines, _ = _written(form, level)
    text = "\n".join(lines)

    assert text.count("RuntimeError") >= 4
    assert "in call" in text or '"name":"call"' in text
    for secret in (_KEY, _KEY[10:30], _PASSWORD, "local_header", "locals"):
        assert secret not in text


def test_malformed_requests_are_counted_and_are_no_errors() -> None:
    lines, counted = _written(LogFormat.JSON, "info")

    assert len(lines) == 4
    assert float(counted) == 2000


def test_malformed_requests_are_few_short_lines_for_whoever_debugs() -> None:
    lines, _ = _written(LogFormat.JSON, "debug")
    events = [orjson.loads(line) for line in lines]
    malformed = [one for one in events if one["event"] == "malformed_request"]

    # The loop may run over the end of a second.
    assert 1 <= len(malformed) <= 3 * LINES_PER_S_MAX
    assert {one["level"] for one in malformed} == {"debug"}
    assert {one["kind"] for one in malformed} <= {"BadStatusLine", "InvalidHeader"}
    assert max(len(line) for line in lines if "malformed_request" in line) < 250
