"""Wrong clocks: libfaketime, where it is installed, shifts what single processes see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LIBRARIES: Final = (
    "usr/lib/*/faketime/libfaketime.so.1",
    "usr/lib*/faketime/libfaketime.so.1",
    "usr/local/lib/faketime/libfaketime.so.1",
)


def find_faketime(root: Path = Path("/")) -> Path | None:
    """Return libfaketime, where it is installed (on Debian the package libfaketime)."""
    found = (path for pattern in _LIBRARIES for path in sorted(root.glob(pattern)))
    return next(found, None)


class ClockShift:
    """A file for each process says by how much its wall clock is off; timers are not touched."""

    def __init__(self, *, library: Path, directory: Path) -> None:
        self._library = library
        self._directory = directory

    def environment(self, label: str) -> Mapping[str, str]:
        """Return what a process needs so that `shift` reaches it."""
        self.shift(label, "+0")
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(label)),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def shift(self, label: str, offset: str) -> None:
        """Move a process's clock by an offset such as +1h; +0 sets it right."""
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._file(label)
        draft = file.with_suffix(".draft")
        draft.write_text(f"{offset}\n", encoding="utf-8")
        draft.rename(file)

    def _file(self, label: str) -> Path:
        return self._directory / f"{label}.clock"
