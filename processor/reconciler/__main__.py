"""The reconciler's composition root: reads the environment, builds the parts, runs them."""

import os
import sys

from processor.reconciler.assembly import serve
from runtime.lifecycle import run_service
from runtime.logs import configure_logging
from runtime.settings import ConfigurationError, ReconcilerSettings, load_settings


def main() -> int:
    """Run as a process; return its exit code."""
    try:
        settings = load_settings(ReconcilerSettings, os.environ)
    except ConfigurationError as error:
        sys.stderr.write(f"ackledger: {error}\n")
        return 2
    configure_logging(settings, service="reconciler")
    return run_service(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
