"""The command line's composition root."""


def main() -> None:
    """Run the `ackledger` command."""
