"""Where a RabbitMQ with its Erlang is on this machine, and getting one if it is not."""

import fcntl
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.stack.options import (
    BROKER_ROOT,
    StackCancelled,
    StackError,
    StackOptions,
    StackUnavailable,
)

_POLL_S = 0.05
_APT_S = 300.0
_UNPACK_S = 120.0
# Beside RabbitMQ and Erlang only shared libraries matter: the rest serves the init system.
_WANTED = re.compile(r"^(rabbitmq-server|erlang-[a-z0-9-]+|lib[a-z0-9.+-]+)$")
_SPARE = frozenset({"libpopt0", "libwrap0", "libsystemd-shared"})


@dataclass(frozen=True)
class RabbitTree:
    """Programs of one RabbitMQ: its start script, epmd, and the folder with `erl`."""

    server: Path
    erlang_folder: Path
    epmd: Path

    @property
    def version(self) -> str:
        """Taken from the folder's name."""
        return self.server.parent.parent.name.removeprefix("rabbitmq_server-")


def find_tree(root: Path) -> RabbitTree | None:
    """The newest RabbitMQ under a root laid out as Debian installs it."""
    pattern = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
    erlang = root / "usr/lib/erlang"
    epmds = sorted(erlang.glob("erts-*/bin/epmd"))
    servers = sorted(root.glob(pattern), key=_version)
    if not servers or not epmds or not (erlang / "bin/erl").exists():
        return None
    return RabbitTree(server=servers[-1], erlang_folder=erlang / "bin", epmd=epmds[-1])


def find_on_path(search_path: str) -> RabbitTree | None:
    """A RabbitMQ that is no Debian package (an archive, Homebrew), by PATH."""
    script = shutil.which("rabbitmq-server", path=search_path)
    erl = shutil.which("erl", path=search_path)
    epmd = shutil.which("epmd", path=search_path)
    if not script or not erl or not epmd:
        return None
    server = Path(script).resolve()
    # Debian's own /usr/sbin/rabbitmq-server insists on root; a real one has its settings beside it.
    if not (server.parent / "rabbitmq-env").exists():
        return None
    return RabbitTree(server=server, erlang_folder=Path(erl).parent, epmd=Path(epmd))


def _version(server: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", server.parent.parent.name)]


def find_any(options: StackOptions) -> RabbitTree | None:
    """The RabbitMQ that was asked for; else an installed one, else one unpacked before."""
    if options.broker_root:
        return find_tree(options.broker_root)
    return (
        find_tree(options.system_root)
        or find_on_path(options.search_path)
        or _find_unpacked(options.cache_directory)
    )


def obtain_tree(options: StackOptions, cancelled: threading.Event) -> RabbitTree:
    """A RabbitMQ that is here, else one downloaded now; needs no root and installs nothing.

    Raises StackUnavailable or StackCancelled.
    """
    tree = find_any(options)
    if tree is None and options.broker_root:
        raise StackUnavailable(f"{BROKER_ROOT}={options.broker_root} holds no RabbitMQ with Erlang")
    return tree or DebianPackages(options, cancelled).obtain()


def _find_unpacked(cache: Path) -> RabbitTree | None:
    trees = [find_tree(folder) for folder in sorted(cache.glob("rabbitmq-*")) if folder.is_dir()]
    present = [tree for tree in trees if tree is not None]
    return max(present, key=lambda tree: _version(tree.server)) if present else None


class DebianPackages:
    """RabbitMQ and Erlang by `apt-get download`, unpacked into the cache folder."""

    def __init__(self, options: StackOptions, cancelled: threading.Event) -> None:
        self._options = options
        self._cancelled = cancelled
        self._cache = options.cache_directory

    def obtain(self) -> RabbitTree:
        """Download and unpack, unless another process just did."""
        for tool in ("apt-get", "dpkg-deb"):
            if not shutil.which(tool, path=self._options.search_path):
                raise StackUnavailable(
                    f"RabbitMQ is not installed, and without {tool} it cannot be downloaded"
                )
        self._cache.mkdir(parents=True, exist_ok=True)
        with self._lock():
            return _find_unpacked(self._cache) or self._download_and_unpack()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._cache / "rabbitmq.lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._pause()
            yield

    def _download_and_unpack(self) -> RabbitTree:
        draft = self._cache / "unpacking"
        shutil.rmtree(draft, ignore_errors=True)
        packages = draft / "packages"
        packages.mkdir(parents=True)
        try:
            self._options.progress("rabbitmq", "downloading RabbitMQ and Erlang (35 MB)")
            self._download(packages)
            self._options.progress("rabbitmq", "unpacking RabbitMQ and Erlang")
            root = draft / "root"
            self._unpack(packages, root)
            return self._keep(root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _download(self, folder: Path) -> None:
        """With the system's package lists; if they are missing or outdated, with our own."""
        names = self._names(())
        if names and self._apt(("download", *names), folder=folder).returncode == 0:
            return
        self._options.progress("rabbitmq", "fetching package lists")
        private = self._private_state()
        self._apt((*private, "update"), folder=folder)
        names = self._names(private)
        if not names:
            raise StackUnavailable("RabbitMQ is not installed, and apt knows no rabbitmq-server")
        finished = self._apt((*private, "download", *names), folder=folder)
        shutil.rmtree(self._cache / "apt", ignore_errors=True)
        if finished.returncode != 0:
            last = finished.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise StackUnavailable(f"RabbitMQ could not be downloaded: {last[0]}")

    def _private_state(self) -> tuple[str, ...]:
        """Package lists of our own, so that apt needs neither root nor the system's lists."""
        state, archives = self._cache / "apt" / "state", self._cache / "apt" / "cache"
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (archives / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        return (
            *("-o", f"Dir::State={state}", "-o", f"Dir::Cache={archives}"),
            *("-o", "Dir::State::status=/var/lib/dpkg/status"),
        )

    def _names(self, apt_options: tuple[str, ...]) -> list[str]:
        """The packages that an installation would add here: those that this machine lacks."""
        simulate = ("--simulate", "--no-install-recommends", "install", "rabbitmq-server")
        finished = self._apt((*apt_options, *simulate), folder=self._cache)
        added = re.findall(r"^Inst (\S+)", finished.stdout, flags=re.MULTILINE)
        return [name for name in added if _WANTED.match(name) and name not in _SPARE]

    def _apt(self, arguments: tuple[str, ...], *, folder: Path) -> subprocess.CompletedProcess[str]:
        return self._run(["apt-get", *arguments], folder=folder, bound_s=_APT_S)

    def _unpack(self, packages: Path, root: Path) -> None:
        for package in sorted(packages.glob("*.deb")):
            finished = self._run(
                ["dpkg-deb", "-x", str(package), str(root)], folder=packages, bound_s=_UNPACK_S
            )
            if finished.returncode != 0:
                raise StackError(f"unpacking {package.name} failed: {finished.stderr.strip()}")

    def _keep(self, root: Path) -> RabbitTree:
        tree = find_tree(root)
        if tree is None:
            raise StackUnavailable("the downloaded packages hold no RabbitMQ where it belongs")
        make_relocatable(tree.erlang_folder / "erl")
        target = self._cache / f"rabbitmq-{tree.version}"
        shutil.rmtree(target, ignore_errors=True)
        root.replace(target)
        kept = find_tree(target)
        if kept is None:
            raise StackError(f"{target} vanished while it was made")
        return kept

    def _run(
        self, command: list[str], *, folder: Path, bound_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a tool to its end, or end it when the start is given up."""
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + bound_s
        while True:
            try:
                output, errors = process.communicate(timeout=_POLL_S)
            except subprocess.TimeoutExpired:
                if not self._cancelled.is_set() and time.monotonic() < deadline:
                    continue
                os.killpg(process.pid, 9)
                process.communicate()
                self._pause()
                raise StackError(f"{command[0]} takes over {bound_s:.0f} s") from None
            return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def _environment(self) -> dict[str, str]:
        given = self._options.environment
        proxies = {name: given[name] for name in given if name.lower().endswith("_proxy")}
        own = {"PATH": self._options.search_path, "LC_ALL": "C", "HOME": str(self._cache)}
        return proxies | own

    def _pause(self) -> None:
        if self._cancelled.wait(_POLL_S):
            raise StackCancelled("rabbitmq: start given up")


def make_relocatable(erl: Path) -> None:
    """Let the unpacked `erl` find its home beside itself instead of in /usr/lib/erlang."""
    here = '"$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)"'
    text = erl.read_text(encoding="utf-8")
    changed = re.sub(
        r"^(\s*ROOTDIR=)/usr/lib/erlang$", lambda m: m[1] + here, text, flags=re.MULTILINE
    )
    erl.write_text(changed, encoding="utf-8")
