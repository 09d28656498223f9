"""What tracing measures of itself."""

from typing import Final

from prometheus_client import Counter

from runtime.service.measures import from_zero

SPANS: Final = Counter(
    "ackledger_trace_spans",
    "Spans by what came of them: exported to the receiver of traces, or lost",
    ["outcome"],
)
from_zero(SPANS, ("exported", "lost"))
