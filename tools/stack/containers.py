"""Servers in Docker containers, for machines where no private copy can be had."""

import hashlib
import importlib
import importlib.util
import socket
import threading
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from tools.stack.options import ServiceKind, StackCancelled, StackError, StackOptions
from tools.stack.options import StackUnavailable as Unavailable
from tools.stack.ports import HOST, choose_ports
from tools.stack.probes import answers
from tools.stack.rabbitmq import put_upstream_user
from tools.stack.service import Endpoint, Service

_IMAGES = {
    "postgres": "postgres:18-alpine",
    "rabbitmq": "rabbitmq:4-management-alpine",
    "redis": "redis:8-alpine",
}
_PORTS = {
    "postgres": {"postgres": 5432},
    "rabbitmq": {"amqp": 5672, "management": 15672, "prometheus": 15692},
    "redis": {"redis": 6379},
}
_DATA = {
    "postgres": "/var/lib/postgresql",
    "rabbitmq": "/var/lib/rabbitmq",
    "redis": "/data",
}
# A first start pulls the image.
_READY_BOUND_S = 120.0
_POLL_S = 0.1
_STOP_S = 20
_USER = "ackledger"


def _docker() -> ModuleType:
    """The engine's client library, which has no types of its own."""
    return importlib.import_module("docker")


def engine_answers(environment: Mapping[str, str]) -> bool:
    """Whether a Docker engine answers and testcontainers is installed."""
    if not all(importlib.util.find_spec(name) for name in ("docker", "testcontainers")):
        return False
    host = environment.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    # The client leaks its connection when nobody listens, so that case is sorted out first.
    if host.startswith("unix://") and not _listens(host.removeprefix("unix://")):
        return False
    docker = _docker()
    try:
        client = docker.from_env(timeout=3, environment=dict(environment))
    except (docker.errors.DockerException, OSError):
        return False
    client.close()
    return True


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


class DockerService(Service):
    """One container with fixed loopback ports and a named volume for its data."""

    def __init__(self, *, name: str, options: StackOptions, cancelled: threading.Event) -> None:
        super().__init__(name=name, kind=ServiceKind.DOCKER)
        self.options = options
        self._cancelled = cancelled
        directory = options.directory.resolve()
        self._home = directory / name
        self.endpoint = Endpoint.load(self._home / "docker.json")
        digest = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
        self._container_name = f"ackledger-{digest}-{name}"

    @property
    def url(self) -> str:
        login = f"{_USER}:{self.endpoint.password(_USER)}"
        port = self.endpoint.ports
        if self.name == "postgres":
            return f"postgresql://{login}@{HOST}:{port['postgres']}/{_USER}"
        if self.name == "rabbitmq":
            return f"amqp://{login}@{HOST}:{port['amqp']}/"
        return f"redis://:{self.endpoint.password(_USER)}@{HOST}:{port['redis']}/0"

    @property
    def management_url(self) -> str | None:
        if self.name != "rabbitmq":
            return None
        login = f"{_USER}:{self.endpoint.password(_USER)}"
        return f"http://{login}@{HOST}:{self.endpoint.ports['management']}"

    def upstream_url(self, name: str) -> str | None:
        password = self.endpoint.passwords.get(name)
        if self.name != "rabbitmq" or password is None:
            return None
        return f"amqp://{name}:{password}@{HOST}:{self.endpoint.ports['amqp']}/"

    @property
    def version(self) -> str:
        return _IMAGES[self.name].partition(":")[2]

    @property
    def ports(self) -> dict[str, int]:
        return dict(self.endpoint.ports)

    @property
    def alive(self) -> bool:
        container = self._find()
        return container is not None and container.status in ("running", "paused")

    def answers(self) -> bool:
        return bool(self.endpoint.ports) and answers(self.name, self.url)

    def start(self, *, keep_ports: bool = True) -> None:
        container = self._find()
        if container is not None and keep_ports:
            container.start()
        else:
            self.stop()
            self._run()
        self._await_ready()
        if self.management_url:
            for user in self.options.upstream_users:
                password = self.endpoint.password(user)
                put_upstream_user(self.management_url, user, password=password, vhost="/")
        self.endpoint.save()

    def _run(self) -> None:
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        # The reaper would take the servers of `stack up` away when this process ends.
        testcontainers_config.ryuk_disabled = True
        self._home.mkdir(parents=True, exist_ok=True)
        inside = _PORTS[self.name]
        self.endpoint.ports = choose_ports(inside, previous=self.endpoint.ports)
        container = DockerContainer(_IMAGES[self.name])
        for purpose, port in inside.items():
            # with_bind_ports would open the port on every interface.
            cast("dict[int, Any]", container.ports)[port] = (HOST, self.endpoint.ports[purpose])
        for variable, value in self._variables().items():
            container.with_env(variable, value)
        container.with_volume_mapping(self._container_name, _DATA[self.name], "rw")
        container.with_kwargs(hostname=f"ackledger-{self.name}")
        container.with_name(self._container_name)
        if command := self._command():
            container.with_command(command)
        self.endpoint.save()
        container.start()

    def _variables(self) -> dict[str, str]:
        password = self.endpoint.password(_USER)
        if self.name == "postgres":
            return {"POSTGRES_USER": _USER, "POSTGRES_PASSWORD": password, "POSTGRES_DB": _USER}
        if self.name == "rabbitmq":
            arguments = "-rabbit heartbeat 10 -rabbit max_message_size 16777216"
            return {
                "RABBITMQ_DEFAULT_USER": _USER,
                "RABBITMQ_DEFAULT_PASS": password,
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": arguments,
            }
        return {"REDISCLI_AUTH": password}

    def _command(self) -> list[str]:
        if self.name == "postgres":
            return ["postgres", "-c", "max_connections=200", "-c", "jit=off"]
        if self.name == "rabbitmq":
            plugins = "rabbitmq_consistent_hash_exchange rabbitmq_management rabbitmq_prometheus"
            enable = f"rabbitmq-plugins enable --offline {plugins}"
            return ["sh", "-c", f"{enable} && exec docker-entrypoint.sh rabbitmq-server"]
        # By standard input: every user of the host can read command lines.
        line = 'requirepass "$REDISCLI_AUTH"'
        serve = 'exec docker-entrypoint.sh redis-server - --save "" --appendonly no'
        return ["sh", "-c", f"{serve} <<EOF\n{line}\nEOF\n"]

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_BOUND_S
        while not self.answers():
            if self._cancelled.wait(_POLL_S):
                raise StackCancelled(f"{self.name}: start given up")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name}: container {self._container_name} does not answer")

    def stop(self, *, graceful: bool = True) -> None:
        container = self._find()
        if container is None:
            return
        if graceful:
            container.stop(timeout=_STOP_S)
        container.remove(force=True)

    def kill(self) -> None:
        self._require().kill()

    def pause(self) -> None:
        self._require().pause()

    def resume(self) -> None:
        self._require().unpause()

    def _require(self) -> Any:
        container = self._find()
        if container is None:
            raise StackError(f"{self.name}: there is no container {self._container_name}")
        return container

    def _find(self) -> Any | None:
        docker = _docker()
        try:
            return docker.from_env().containers.get(self._container_name)
        except docker.errors.NotFound:
            return None
        except docker.errors.DockerException as error:
            raise Unavailable(f"the Docker engine does not answer: {error}") from error
