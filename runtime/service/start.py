"""How a process imports what it runs: quickly, since a start is nearly all imports."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LEFT_OUT: Final = ("opentelemetry.sdk.metrics", "rich")
"""What libraries import only because it is installed, and no process uses.

redis would count its commands for OpenTelemetry's metrics; structlog would draw tracebacks with
rich. Both do without where it is missing.
"""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import with the collector off and without `LEFT_OUT`, which can be imported afterwards.

    What is imported stays, and the collector would walk all of it again and again: a tenth of the
    start and more. It stays off; `run_process` turns it on when all is there.
    """
    gc.disable()
    for name in LEFT_OUT:
        # None is the import system's own word for a module that must not be found.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in LEFT_OUT:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
