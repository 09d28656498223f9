"""Who runs a command, for the audit log."""

import os
import pwd


def login_actor() -> str:
    """Return `cli:` and the login name of this process's user (not of an environment variable)."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A container's user has a number and no name.
        name = str(os.getuid())
    return f"cli:{name}"
