"""A bucket of the time to the end names a trace that ended there, in OpenMetrics."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from ledger.state import Posted, Posting, Refused
from ledger.words import FailureCode
from processor import metrics
from runtime.service.measures import HotHistogram
from runtime.service.status_server import Readiness, StatusServer
from tests.integration.reconciler.serving import running
from tests.support import eventually
from tools.stack.ports import HOST, PortClaims

_KEPT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_NOT_KEPT: Final = "00-00000000000000000000000000000001-00f067aa0ba902b7-00"
_TRACE_ID: Final = _KEPT[3:35]
_MOMENT: Final = datetime(2026, 11, 29, tzinfo=UTC)
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def histogram(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """The registry of a histogram of this test's own, in place of the processor's."""
    registry = CollectorRegistry()
    own = HotHistogram("end_to_end_seconds", "", ["channel"], buckets=(0.5, 5), registry=registry)
    for channel in ("http", "amqp"):
        own.labels(channel)
    monkeypatch.setattr(metrics, "END_TO_END_SECONDS", own)
    return registry


def _row(number: int, seconds: float, traceparent: str | None) -> dict[str, Any]:
    return {
        "id": UUID(int=number),
        "type": "deposit",
        "channel": "http",
        "created_at": _MOMENT - timedelta(seconds=seconds),
        "traceparent": traceparent,
    }


def _ended(*rows: dict[str, Any], is_traced: bool) -> None:
    posting = Posting(
        [Posted(one["id"], UUID(int=1), UUID(int=2), 1, 1, 1, 0, 0) for one in rows[:-1]],
        [Refused(rows[-1]["id"], FailureCode.INSUFFICIENT_FUNDS)],
        wallets=[],
    )
    metrics.note_endings({one["id"]: one for one in rows}, posting, _MOMENT, is_traced=is_traced)


def _written(registry: CollectorRegistry) -> str:
    write, _ = choose_encoder(_OPENMETRICS)
    return write(registry).decode()


def _exemplars(text: str) -> dict[str, Exemplar]:
    [family] = [
        one
        for one in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        if one.name.endswith("end_to_end_seconds")
    ]
    return {one.labels["le"]: one.exemplar for one in family.samples if one.exemplar is not None}


def test_each_bucket_names_the_last_kept_trace_that_ended_in_it(
    histogram: CollectorRegistry,
) -> None:
    rows = [_row(1, 0.1, _KEPT), _row(2, 1, _NOT_KEPT), _row(3, 2, None), _row(4, 9, _KEPT)]
    _ended(*rows, is_traced=True)
    found = _exemplars(_written(histogram))

    assert {le: (one.labels, one.value) for le, one in found.items()} == {
        "0.5": ({"trace_id": _TRACE_ID}, 0.1),
        "+Inf": ({"trace_id": _TRACE_ID}, 9),
    }


def test_where_no_spans_are_wanted_no_trace_is_named(histogram: CollectorRegistry) -> None:
    _ended(_row(1, 0.1, _KEPT), _row(2, 0.2, _KEPT), is_traced=False)

    assert _exemplars(_written(histogram)) == {}


async def test_exemplars_are_shown_to_who_accepts_openmetrics_and_to_nobody_else() -> None:
    metrics.END_TO_END_SECONDS.labels("http").exemplify(0.1, trace_id=_TRACE_ID)
    claims = PortClaims()
    port = claims.claim_any()
    claims.release()
    url = f"http://{HOST}:{port}/metrics"

    async def read(accept: str) -> tuple[str, str]:
        headers = {"Accept": accept}
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers) as answer,
        ):
            return answer.headers["Content-Type"], await answer.text()

    async def answers() -> bool:
        try:
            return bool(await read("*/*"))
        except aiohttp.ClientConnectionError:
            return False

    async with running(StatusServer(Readiness({}), host=HOST, port=port)):
        await eventually(answers, what="the status port answers")
        wanted_type, wanted = await read(_OPENMETRICS)
        plain_type, plain = await read("text/plain; version=0.0.4")

    assert wanted_type.startswith("application/openmetrics-text; version=1.0.0")
    assert _exemplars(wanted)["0.1"].labels == {"trace_id": _TRACE_ID}
    assert plain_type.startswith("text/plain")
    assert _TRACE_ID not in plain
