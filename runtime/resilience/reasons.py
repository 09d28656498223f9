"""Why something did not answer, in words for people."""

import os


def reason_of(error: BaseException) -> str:
    """Return why something did not answer, in a few words."""
    if isinstance(error, ExceptionGroup):
        return reason_of(error.exceptions[0])
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        # A library's own text repeats the address; that of a name lookup has a number of its own.
        number = error.errno or 0
        return (os.strerror(number) if number > 0 else error.strerror).lower()
    return str(error) or type(error).__name__
