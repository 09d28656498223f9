"""The console as a program: reads the environment and runs the composition root on it."""

import os
import sys

from runtime.service.start import quick_imports


def main() -> int:
    """Run as a process; return its exit code."""
    with quick_imports():
        from console.composition import run  # noqa: PLC0415
    return run(os.environ)


if __name__ == "__main__":
    sys.exit(main())
