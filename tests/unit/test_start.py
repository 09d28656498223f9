"""What a process does not load that does not use it: imports are most of a start."""

import subprocess
import sys

import pytest


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
