"""The command line's composition root."""

import os
import sys

from cli.command_line import run_command_line


def main() -> int:
    """Run the `ackledger` command; return its exit code."""
    return run_command_line(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
