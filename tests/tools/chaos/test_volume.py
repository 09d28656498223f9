"""The volume on which PostgreSQL's disk can be full."""

import threading
from pathlib import Path

import pytest

from tools.chaos import volume

_CHUNK = b"x" * 8192


def _write_until(stopping: threading.Event, path: Path) -> None:
    with path.open("wb") as file:
        while not stopping.is_set():
            try:
                file.write(_CHUNK)
                file.flush()
                stopping.wait(0.001)
            except OSError:
                continue


@pytest.mark.skipif(volume.missing() is not None, reason=str(volume.missing()))
def test_a_volume_can_be_filled_while_its_server_writes(tmp_path: Path) -> None:
    volume.mount(tmp_path)
    stopping = threading.Event()
    writer = threading.Thread(target=_write_until, args=(stopping, tmp_path / "wal"))
    try:
        writer.start()
        for _ in range(30):
            volume.fill(tmp_path)
            volume.free(tmp_path)
    finally:
        stopping.set()
        writer.join()
        volume.unmount(tmp_path)
