"""`ackledger run` as a user meets it: one command, one line to paste, Ctrl-C, nothing left."""

import asyncio
import json
import os
import re
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.integration.command_line.calling import BOUND_S, Called, ackledger, ended, started
from tests.support import eventually
from tests.tools.stack.starting import processes_of

pytestmark = pytest.mark.long

FIRST_START_S: Final = 60.0
LATER_START_S: Final = 15.0


@dataclass
class Run:
    """A started `ackledger run`, and what it printed."""

    process: asyncio.subprocess.Process
    directory: Path
    lines: list[str] = field(default_factory=list)

    async def printed(self, text: str, *, within_s: float) -> str:
        """Return the line that holds a text, as soon as it is printed."""
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                if text in line:
                    return line
        rest = await ended(self.process)
        raise AssertionError(f"'{text}' was never printed: {self.lines} {rest}")

    async def ready(self, *, within_s: float) -> None:
        """Return when the block of addresses is out."""
        await self.printed("Ctrl-C stops all of it", within_s=within_s)

    @property
    def curl_line(self) -> str:
        """The line to paste."""
        [line] = [line for line in self.lines if line.startswith("curl ")]
        return line

    @property
    def api_key(self) -> str:
        """The key that was printed."""
        found = re.search(r"ack_[A-Za-z0-9_-]{43}", "".join(self.lines))
        assert found is not None
        return found.group()

    async def told(self, text: str) -> str:
        """Return the line on standard error that holds a text."""
        assert self.process.stderr is not None
        async with asyncio.timeout(BOUND_S):
            while line := (await self.process.stderr.readline()).decode():
                if text in line:
                    return line
        raise AssertionError(f"'{text}' was never told")

    def child(self, module: str) -> psutil.Process:
        """The living child that runs a module."""
        [child] = [
            child
            for child in psutil.Process(self.process.pid).children()
            if child.cmdline()[-1:] == [module]
        ]
        return child


async def run(directory: Path, *options: str, **variables: str) -> Run:
    """Start `ackledger run` in a directory, on whatever ports are free."""
    ports = {"ACKLEDGER_HTTP_PORT": "0", "ACKLEDGER_STATUS_PORT": "0", **variables}
    return Run(await started("run", *options, directory=directory, variables=ports), directory)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all starts of this module."""
    return tmp_path_factory.mktemp("run") / ".local"


@pytest.fixture(scope="module")
async def running(home: Path) -> AsyncIterator[Run]:
    """A running system; afterwards nothing of it is left, however it ended."""
    first = await run(home)
    await first.ready(within_s=FIRST_START_S)
    yield first
    if first.process.returncode is None:
        first.process.kill()
        await ended(first.process)
    await ackledger("stack", "down", directory=home)
    assert processes_of(home) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
async def test_the_line_to_paste_makes_a_wallet_and_shows_it_again(running: Run) -> None:
    answers = []
    for _ in range(2):
        shell = await asyncio.create_subprocess_shell(
            running.curl_line, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await shell.communicate()
        answers.append(json.loads(out))

    assert answers[0]["currency"] == "EUR"
    assert answers[0]["balance"] == "0.00"
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "arguments", [("verify",), ("api-keys", "list"), ("migrate", "--check")], ids=" ".join
)
async def test_a_second_terminal_needs_no_variable(
    running: Run, arguments: tuple[str, ...]
) -> None:
    called = await ackledger(*arguments, directory=running.directory)

    assert called.code == 0


async def test_a_second_terminal_believes_the_keys_of_the_local_database(
    running: Run, tmp_path: Path
) -> None:
    called = await ackledger("verify", "--json", directory=running.directory)
    listed = await ackledger("keys", "list", "--json", directory=running.directory)
    elsewhere = await ackledger(
        "keys",
        "list",
        directory=running.directory,
        variables={"ACKLEDGER_SEAL_KEYS": str(tmp_path / "others")},
    )

    assert called.json["seals"]["signatures_checked"] is True
    assert len(listed.json["items"]) == 1
    assert elsewhere.code == 1, "a setting of one's own wins"


async def test_a_second_terminal_submits_with_the_local_key(running: Run) -> None:
    called = await ackledger(
        *("submit", "--type", "deposit", "--amount", "1.00", "--currency", "EUR", "--json"),
        *("--destination", "01a1fdec-fa8c-7db6-8000-62e77ef5b845"),
        directory=running.directory,
    )

    assert called.code == 1
    assert called.json["submitter"] == "demo"
    assert called.json["failure"]["code"] == "wallet_not_found"


async def test_the_local_key_is_never_sent_to_another_address(running: Run) -> None:
    called = await ackledger(
        *("show", "01a1fdec-fa8c-7db6-8000-62e77ef5b845", "--url", "http://127.0.0.1:1"),
        directory=running.directory,
    )

    assert called.code == 2
    assert "no API key for http://127.0.0.1:1" in called.err


def _modes(directory: Path) -> Iterator[tuple[str, str]]:
    """Every file's name and mode; servers take some away while one looks."""
    for folder, _, files in os.walk(directory):
        for name in files:
            with suppress(FileNotFoundError):
                yield name, stat.filemode((Path(folder) / name).lstat().st_mode)


async def test_every_file_is_for_the_owner_s_eyes_only(running: Run) -> None:
    modes = dict(_modes(running.directory))

    assert {"run.json", "stack.json", "ingress.log", "postgres.log", "rabbitmq.log"} <= set(modes)
    assert {name: mode for name, mode in modes.items() if not mode.endswith("------")} == {}


async def test_what_an_earlier_release_left_open_is_closed(running: Run, tmp_path: Path) -> None:
    directory = tmp_path / ".local"
    (directory / "logs").mkdir(parents=True)
    log = directory / "logs" / "ingress.log"
    log.touch(mode=0o644)
    second = await run(directory, **_urls(running))
    await second.ready(within_s=LATER_START_S)
    second.process.send_signal(signal.SIGINT)
    await ended(second.process)

    assert stat.filemode(log.stat().st_mode) == "-rw-------"
    assert log.stat().st_size > 0


async def test_no_command_line_holds_a_password(running: Run) -> None:
    passwords = {
        password
        for path in running.directory.glob("*/endpoint.json")
        for password in json.loads(path.read_text())["passwords"].values()
    }
    # Whoever may read the list of processes reads these, of all programs on the machine.
    lines = [Path(f"/proc/{pid}/cmdline") for pid in psutil.pids()]
    shown = "\n".join(_text_of(path) for path in lines)

    assert len(passwords) >= 4
    assert "beam.smp" in shown
    assert [one for one in (*passwords, running.api_key) if one in shown] == []


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


async def test_a_second_run_in_the_same_directory_is_refused(running: Run) -> None:
    called = await ended((await run(running.directory)).process)

    assert called.code == 1
    assert f"process {running.process.pid}" in called.err


def _urls(running: Run) -> dict[str, str]:
    """The servers of a run, for another one."""
    stack = json.loads((running.directory / "stack.json").read_text())["services"]
    return {
        "DATABASE_URL": stack["postgres"]["url"],
        "AMQP_URL": stack["rabbitmq"]["url"],
        "REDIS_URL": stack["redis"]["url"],
    }


async def test_a_port_that_was_asked_for_and_is_taken_is_named(
    running: Run, tmp_path: Path
) -> None:
    state = json.loads((running.directory / "run.json").read_text())
    port = state["http_url"].rpartition(":")[2]
    variables = {"ACKLEDGER_HTTP_PORT": port, **_urls(running)}

    called = await ended((await run(tmp_path / ".local", **variables)).process)

    assert called.code == 2
    assert f"ACKLEDGER_HTTP_PORT={port}" in called.err


async def test_several_ingresses_serve_one_port(running: Run, tmp_path: Path) -> None:
    system = await run(tmp_path / ".local", "--ingresses", "2", **_urls(running))
    await system.ready(within_s=LATER_START_S)
    listening = [
        {one.laddr.port for one in child.net_connections() if one.status == psutil.CONN_LISTEN}
        for child in psutil.Process(system.process.pid).children()
        if child.cmdline()[-1:] == ["ingress"]
    ]

    system.process.send_signal(signal.SIGINT)
    assert (await ended(system.process)).code == 0
    [first, second] = listening
    # Each has a status port of its own beside the one that they share.
    assert (len(first), len(second), len(first & second)) == (2, 2, 1)


async def test_a_process_that_dies_is_said_and_comes_back(running: Run) -> None:
    before = running.child("processor")

    before.kill()

    assert "starting it again" in await running.told("processor was killed by signal 9")

    async def look() -> Called | None:
        called = await ackledger(
            *("submit", "--type", "deposit", "--amount", "1.00", "--currency", "EUR", "--json"),
            *("--destination", "01a1fdec-fa8c-7db6-8000-62e77ef5b845", "--wait", "5"),
            directory=running.directory,
        )
        return called if called.json["status"] == "FAILED" else None

    await eventually(look, what="the new processor decides")
    assert running.child("processor").pid != before.pid


async def test_ctrl_c_stops_all_of_it_and_the_next_start_is_quick_with_the_same_key(
    running: Run,
) -> None:
    running.process.send_signal(signal.SIGINT)
    first = await ended(running.process)

    assert first.code == 0
    assert "all is stopped" in first.err
    assert processes_of(running.directory) == []

    second = await run(running.directory)
    await second.ready(within_s=LATER_START_S)
    assert second.api_key == running.api_key

    second.process.send_signal(signal.SIGTERM)
    assert (await ended(second.process)).code == 0
    assert processes_of(running.directory) == []


async def test_what_a_killed_run_leaves_is_ended_by_the_next_stack_down(running: Run) -> None:
    killed = await run(running.directory)
    await killed.ready(within_s=LATER_START_S)
    children = [killed.child(module).pid for module in ("ingress", "processor")]
    os.kill(killed.process.pid, signal.SIGKILL)
    await ended(killed.process)
    assert all(psutil.pid_exists(pid) for pid in children)

    called = await ackledger("stack", "down", directory=running.directory)

    assert called.code == 0
    assert processes_of(running.directory) == []


async def test_stack_down_stops_a_run_that_lives(running: Run) -> None:
    living = await run(running.directory)
    await living.ready(within_s=LATER_START_S)

    called = await ackledger("stack", "down", directory=running.directory)

    assert called.code == 0
    assert (await ended(living.process)).code == 0
    assert processes_of(running.directory) == []


async def test_ctrl_c_during_the_start_leaves_nothing(running: Run) -> None:
    early = await run(running.directory)
    await early.told("starting")

    early.process.send_signal(signal.SIGINT)

    assert (await ended(early.process)).code == 0
    assert processes_of(running.directory) == []
