"""Which server is taken, decided without starting one."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.tools.stack.starting import ROOT
from tools.stack import (
    PostgresBinaries,
    ServiceKind,
    StackMode,
    StackOptions,
    StackUnavailable,
    StackUnreachable,
    read_stack,
    start_stack,
    stop_stack,
)
from tools.stack.containers import engine_answers
from tools.stack.erlang import find_any, find_tree, make_relocatable, obtain_tree
from tools.stack.options import BROKER_ROOT
from tools.stack.ports import PortClaims, choose_ports, is_free
from tools.stack.postgres import find_postgres
from tools.stack.processes import find, is_ours
from tools.stack.resolution import ways
from tools.stack.service import Endpoint
from tools.stack.state import Owner, StackState

URL, PRIVATE, DOCKER = ServiceKind.URL, ServiceKind.PRIVATE, ServiceKind.DOCKER


@pytest.mark.parametrize(
    ("mode", "url_given", "expected"),
    [
        (StackMode.AUTO, True, (URL,)),
        (StackMode.AUTO, False, (PRIVATE, DOCKER)),
        (StackMode.URLS, False, (URL,)),
        (StackMode.LOCAL, True, (PRIVATE,)),
        (StackMode.DOCKER, True, (DOCKER,)),
    ],
)
def test_each_mode_tries_its_ways_in_order(
    *, mode: StackMode, url_given: bool, expected: tuple[ServiceKind, ...]
) -> None:
    assert ways(mode, url_given=url_given) == expected


def test_without_a_url_the_urls_mode_names_three_ways_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(StackUnavailable) as failure:
        start_stack(StackOptions(directory=tmp_path, mode=StackMode.URLS))
    assert all(way in str(failure.value) for way in ("1. name", "2. install", "3. start a Docker"))


def test_without_an_engine_the_docker_mode_is_unavailable(tmp_path: Path) -> None:
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}
    assert not engine_answers(nowhere)
    with pytest.raises(StackUnavailable, match="no Docker engine answers"):
        start_stack(StackOptions(directory=tmp_path, mode=StackMode.DOCKER, environment=nowhere))


def test_a_given_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        wanted = StackOptions(
            directory=tmp_path,
            database_url=f"postgresql://me:secret@{place}/ledger",
            amqp_url=f"amqp://me:secret@{place}/",
            redis_url=f"redis://:secret@{place}/0",
        )
        with pytest.raises(StackUnreachable) as failure:
            start_stack(wanted)
    assert place in str(failure.value)
    assert "secret" not in str(failure.value)


def test_ports_stay_the_same_unless_taken() -> None:
    first = choose_ports(["amqp", "management"], previous={})
    assert choose_ports(["amqp", "management"], previous=first) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["amqp"]))
        other.listen()
        assert not is_free(first["amqp"])
        second = choose_ports(["amqp", "management"], previous=first)
    assert second["amqp"] not in first.values()
    assert second["management"] == first["management"]


def test_of_two_who_claim_a_free_port_one_has_it_until_it_gives_it_back() -> None:
    ours, theirs = PortClaims(), PortClaims()
    port = ours.claim_any()

    assert is_free(port)
    assert not theirs.claim(port)
    ours.release()
    assert theirs.claim(port)
    theirs.release()


def test_a_port_on_which_somebody_listens_cannot_be_claimed() -> None:
    claims = PortClaims()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not claims.claim(other.getsockname()[1])


def test_a_process_is_ours_only_by_program_and_directory_together(tmp_path: Path) -> None:
    programs = {Path(sys.executable).resolve().name}
    command = [str(Path(sys.executable).resolve()), "-c", "input()"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        found = psutil.Process(process.pid)
        assert is_ours(found, home=tmp_path, programs=programs)
        assert not is_ours(found, home=elsewhere, programs=programs)
        assert not is_ours(found, home=tmp_path, programs={"postgres"})
        process.communicate(b"\n")
    assert find(home=tmp_path, programs=programs) == []


def test_an_owner_is_told_from_a_later_process_with_its_pid() -> None:
    owner = Owner.current()
    assert owner.alive
    assert not replace(owner, created=owner.created - 60).alive


def test_a_state_file_of_dead_processes_is_no_stack(tmp_path: Path) -> None:
    described = {n: {"kind": "private", "url": "x://"} for n in ("postgres", "rabbitmq", "redis")}
    StackState(owner=Owner(pid=os.getpid(), created=1.0), services=described).save(tmp_path)
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    assert read_stack(tmp_path) is None
    assert not stop_stack(tmp_path)
    assert not (tmp_path / "stack.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 3, "services": {}}'])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    assert StackState.load(tmp_path) is None
    assert Endpoint.load(tmp_path / "stack.json").ports == {}


def _unpack(root: Path, version: str) -> None:
    """Make the files by which a RabbitMQ and its Erlang are known."""
    for name in (
        f"usr/lib/rabbitmq/lib/rabbitmq_server-{version}/sbin/rabbitmq-server",
        "usr/lib/erlang/bin/erl",
        "usr/lib/erlang/erts-13/bin/epmd",
    ):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()


def test_an_installed_rabbitmq_comes_before_a_downloaded_one(tmp_path: Path) -> None:
    installed, cache = tmp_path / "installed", tmp_path / "cache/ackledger/rabbitmq-9.9.9"
    _unpack(installed, "3.10.8")
    _unpack(cache, "9.9.9")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    found = find_any(StackOptions(system_root=installed, environment=environment))
    assert found == find_tree(installed)
    assert found is not None
    assert found.version == "3.10.8"


def test_the_rabbitmq_that_was_asked_for_comes_before_all_others(tmp_path: Path) -> None:
    installed, wanted = tmp_path / "installed", tmp_path / "broker-9.9"
    _unpack(installed, "3.10.8")
    _unpack(wanted, "9.9.9")

    found = find_any(
        StackOptions(system_root=installed, environment={BROKER_ROOT: str(wanted)}),
    )

    assert found == find_tree(wanted)
    assert found is not None
    assert found.version == "9.9.9"


def test_a_folder_without_the_rabbitmq_that_was_asked_for_is_named(tmp_path: Path) -> None:
    wanted = StackOptions(environment={BROKER_ROOT: str(tmp_path), "PATH": ""})

    with pytest.raises(StackUnavailable, match=f"{BROKER_ROOT}={tmp_path} holds no RabbitMQ"):
        obtain_tree(wanted, threading.Event())


def _make_broker(
    series: str, root: Path, *, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Call deploy/make-broker, by default in this process's environment."""
    return subprocess.run(
        [str(ROOT / "deploy" / "make-broker"), series, str(root)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("series", ["4.9", "latest", ""])
def test_a_series_that_no_debian_carries_is_refused_with_those_that_can_be_had(
    series: str, tmp_path: Path
) -> None:
    made = _make_broker(series, tmp_path / "broker")

    assert made.returncode == 2
    assert "3.10, 4.0 or 4.3" in made.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_apt_a_broker_of_another_series_is_refused_with_what_is_missing(
    tmp_path: Path,
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "realpath", "cat"):
        (tools / name).symlink_to(shutil.which(name) or "")

    made = _make_broker("4.3", tmp_path / "broker", environment={"PATH": str(tools)})

    assert made.returncode == 2
    assert "needs apt-get" in made.stderr
    assert "AMQP_URL" in made.stderr


def test_the_system_postgres_can_be_asked_for(tmp_path: Path) -> None:
    for version in ("15", "9.6"):
        folder = tmp_path / "usr/lib/postgresql" / version / "bin"
        folder.mkdir(parents=True)
        for name in ("postgres", "initdb"):
            (folder / name).touch(mode=0o755)
    found = find_postgres(StackOptions(postgres=PostgresBinaries.SYSTEM, system_root=tmp_path))
    assert found == tmp_path / "usr/lib/postgresql/15/bin"


def _installed(root: Path, version: str) -> Path:
    """A PostgreSQL that can do no more than tell its version."""
    folder = root / "usr/lib/postgresql" / version.partition(".")[0] / "bin"
    folder.mkdir(parents=True)
    (folder / "initdb").touch(mode=0o755)
    (folder / "postgres").write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
    (folder / "postgres").chmod(0o755)
    return folder


def test_a_postgres_of_one_major_version_can_be_asked_for(tmp_path: Path) -> None:
    _installed(tmp_path, "17.2")
    wanted = _installed(tmp_path, "15.18")

    found = find_postgres(StackOptions(postgres_major=15, system_root=tmp_path))

    assert found == wanted


def test_a_major_version_that_is_not_installed_is_told_with_those_that_are(
    tmp_path: Path,
) -> None:
    _installed(tmp_path, "17.2")

    with pytest.raises(StackUnavailable, match=r"PostgreSQL 7 is not installed; .* 17\.2 in "):
        find_postgres(StackOptions(postgres_major=7, system_root=tmp_path))


def test_an_unpacked_erl_finds_its_home_beside_itself(tmp_path: Path) -> None:
    erl = tmp_path / "erlang" / "bin" / "erl"
    erl.parent.mkdir(parents=True)
    erl.write_text('#!/bin/sh\nif true\nthen\n    ROOTDIR=/usr/lib/erlang\nfi\necho "$ROOTDIR"\n')
    erl.chmod(0o755)
    make_relocatable(erl)
    answer = subprocess.run([erl], capture_output=True, text=True, check=True).stdout
    assert answer.strip() == str((tmp_path / "erlang").resolve())
