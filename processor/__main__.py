"""The processor as a program: reads the environment and runs the composition root on it."""

import gc
import os
import sys


def main() -> int:
    """Run as a process; return its exit code."""
    # What is imported stays, and the collector would walk all of it again and again: a tenth of
    # the start and more. `run_process` turns it on when all is there.
    gc.disable()
    from processor.composition import run  # noqa: PLC0415  # after the line above

    return run(os.environ)


if __name__ == "__main__":
    sys.exit(main())
