"""The reconciler's composition root: reads the environment, builds the parts, runs them."""

import os
import sys

from processor.reconciler.assembly import serve
from runtime.lifecycle import run_process
from runtime.settings import ReconcilerSettings


def main() -> int:
    """Run as a process; return its exit code."""
    return run_process(ReconcilerSettings, serve, name="reconciler", environment=os.environ)


if __name__ == "__main__":
    sys.exit(main())
