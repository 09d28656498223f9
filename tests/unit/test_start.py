"""What a process does not load that does not use it: imports are most of a start."""

import os
import subprocess
import sys

import pytest

from runtime.service.start import LEFT_OUT

START = "runtime.service.start"


@pytest.mark.parametrize(
    ("composition", "unused"),
    [
        ("ingress.composition", ["jwt", "cryptography.hazmat"]),
        ("processor.composition", ["aiohttp", "jwt", "cryptography.hazmat"]),
        ("reconciler.composition", ["aiohttp", "jwt", "cryptography.hazmat"]),
    ],
)
def test_a_process_loads_no_library_for_what_is_not_configured(
    composition: str, unused: list[str]
) -> None:
    program = f"import sys, {composition}; print(*(set({unused!r}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )

    assert done.stdout.split() == []


@pytest.mark.parametrize("process", ["console", "ingress", "notifier", "processor", "reconciler"])
def test_a_process_loads_nothing_only_because_it_is_installed(process: str) -> None:
    program = (
        f"import sys, {process}.__main__ as program, {START} as start\n"
        "sys.stderr = open('/dev/null', 'w')\n"
        "code = program.main()\n"  # a wrong setting ends it behind its imports
        "print(code, *(set(start.LEFT_OUT) & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "ACKLEDGER_LOG_LEVEL": "none"},
    )

    assert done.stdout.split() == ["2"]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_a_start_leaves_out_can_be_imported_afterwards(name: str) -> None:
    program = (
        f"import importlib, {START} as start\n"
        "with start.quick_imports():\n"
        "    import redis.asyncio, structlog\n"
        f"print(importlib.import_module({name!r}).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )

    assert done.stdout.split() == [name]
