"""Whole stacks: side by side, interrupted, killed, found again."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import aio_pika
import aiormq
import psutil
import pytest
from pamqp.common import FieldValue

from tests.support import eventually
from tests.tools.stack.starting import (
    DEFAULT_PORTS,
    ROOT,
    options,
    processes_of,
    starter,
)
from tools.stack import (
    ServiceKind,
    Stack,
    add_upstream_user,
    add_vhost,
    read_stack,
    remove_vhost,
    start_stack,
    stop_stack,
)
from tools.stack.probes import amqp_answers

NothingLeft = Callable[[Path], None]


def _await_line(process: subprocess.Popen[str], beginning: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"it ended without a line that begins with {beginning!r}")


def _tree(pid: int | None) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


async def _await_registration(stack: Stack, queue: str) -> None:
    """Return when the broker has the queue's registration on disk.

    RabbitMQ 3.10 writes it up to a second after the queue is declared; a kill before that leaves
    a quorum queue that never finds a leader again.
    """
    registry = next(stack.directory.glob("rabbitmq/mnesia*/*/quorum/*/names.dets"))

    async def is_written() -> bool:
        return f"_{queue}".encode() in registry.read_bytes()

    await eventually(is_written, what=f"{queue} is registered on disk")


def test_everything_is_private_owned_and_answers(stack: Stack) -> None:
    assert stack.owned
    assert {service.kind for service in stack.services} == {ServiceKind.PRIVATE}
    assert all(service.answers() for service in stack.services)
    assert amqp_answers(stack.upstream_url("demo") or "")


def test_only_loopback_ports_that_no_standard_server_uses_are_open(stack: Stack) -> None:
    ports = {port for service in stack.services for port in service.ports.values()}
    assert ports.isdisjoint(DEFAULT_PORTS)
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for service in stack.services
        for process in _tree(service.pid)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {ip for ip, _ in listening} == {"127.0.0.1"}
    assert {port for _, port in listening} <= ports


def test_passwords_are_for_their_owner_only(stack: Stack) -> None:
    secrets = [
        stack.directory / "stack.json",
        *stack.directory.glob("*/endpoint.json"),
        stack.directory / "redis/redis.conf",
        stack.directory / "rabbitmq/rabbitmq.conf",
    ]
    assert len(secrets) == 6
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}


def test_a_second_start_uses_the_stack_and_does_not_own_it(stack: Stack) -> None:
    with start_stack(options(stack.directory)) as again:
        assert not again.owned
        assert again.urls == stack.urls
    found = read_stack(stack.directory)
    assert found is not None
    assert [s.pid for s in found.services] == [s.pid for s in stack.services]


async def test_an_upstream_user_publishes_transactions_and_nothing_else(stack: Stack) -> None:
    url = add_upstream_user(stack, "bank", "p@ss/word")
    async with await aio_pika.connect(stack.rabbitmq.url) as service:
        channel = await service.channel()
        await channel.declare_exchange(
            "ackledger.transactions", type=aio_pika.ExchangeType.X_CONSISTENT_HASH
        )
    async with await aio_pika.connect(url) as upstream:
        channel = await upstream.channel()
        exchange = await channel.get_exchange("ackledger.transactions", ensure=False)
        message = aio_pika.Message(b"{}", user_id="bank")
        await exchange.publish(message, routing_key="wallet", mandatory=False)
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await channel.default_exchange.publish(message, routing_key="any", mandatory=False)
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await (await upstream.channel()).declare_queue("mine")


async def test_a_virtual_host_comes_and_goes(stack: Stack) -> None:
    url = add_vhost(stack, "tests/one")
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).declare_queue("here", exclusive=True)
    assert amqp_answers(url)
    remove_vhost(stack, "tests/one")
    remove_vhost(stack, "tests/one")
    assert not amqp_answers(url)


async def test_a_killed_broker_comes_back_with_its_messages(stack: Stack) -> None:
    url = stack.rabbitmq.url
    arguments: dict[str, FieldValue] = {"x-queue-type": "quorum"}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments=arguments)
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="kept")
    await _await_registration(stack, "kept")
    stack.rabbitmq.kill()
    assert not stack.rabbitmq.alive
    stack.rabbitmq.start()
    assert stack.rabbitmq.url == url
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True, arguments=arguments)
        kept = await queue.get(no_ack=True)
        assert kept is not None
        assert kept.body == b"kept"


def test_a_detached_stack_outlives_its_starter_and_is_stopped_by_another_process(
    stack: Stack, directory: Path, nothing_left: NothingLeft
) -> None:
    finished = subprocess.run(
        starter(directory, detached=True),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert finished.stdout.splitlines()[-1] == "started False"
    side = read_stack(directory)
    assert side is not None
    assert all(service.answers() for service in (*side.services, *stack.services))
    mine = {port for service in stack.services for port in service.ports.values()}
    assert mine.isdisjoint(port for service in side.services for port in service.ports.values())
    assert stop_stack(directory)
    nothing_left(directory)
    assert all(service.answers() for service in stack.services)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(
    directory: Path, nothing_left: NothingLeft, number: signal.Signals
) -> None:
    with subprocess.Popen(
        starter(directory, detached=False), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        _await_line(process, "rabbitmq starting")
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode != 0
    nothing_left(directory)


def test_what_a_killed_starter_left_is_found_and_ended(
    directory: Path, nothing_left: NothingLeft
) -> None:
    with subprocess.Popen(
        starter(directory, detached=False), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        _await_line(process, "postgres ready")
        process.kill()
    assert processes_of(directory) != []
    assert not (directory / "stack.json").exists()
    assert stop_stack(directory)
    nothing_left(directory)
