"""A private RabbitMQ with an epmd, a cookie and ports of its own; loopback only."""

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from cli.clients.management import Management
from contracts.broker_permissions import SERVICE_USERS, UPSTREAM
from tools.stack import processes
from tools.stack.erlang import RabbitTree, find_any, obtain_tree
from tools.stack.options import StackError, StackOptions
from tools.stack.ports import HOST
from tools.stack.probes import accepts, amqp_answers
from tools.stack.service import PrivateService, Service, write_private

_USER = "ackledger"
_EPMD_BOUND_S = 5.0
# A virtual machine of its own starts each time.
_CONTROL_BOUND_S = 30.0
_PLUGINS = "[rabbitmq_consistent_hash_exchange,rabbitmq_management,rabbitmq_prometheus].\n"

# Schedulers that sleep when idle: on two cores, spinning would take them from the ledger.
_NODE = "ackledger@localhost"
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
_ERLANG_ARGUMENTS = f"+sbwt none +sbwtdcpu none +sbwtdio none {_LOOPBACK}"
_STATISTICS = "rabbit_event, rabbit_mgmt_db_handler"
_DETACH_BOUND_S = 3.0


class PrivateRabbitMQ(PrivateService):
    """The broker as production has it: quorum queues, validated users, the hash exchange."""

    programs = frozenset(
        {
            *("rabbitmq-server", "erl", "erlexec", "beam.smp", "epmd", "erl_child_setup"),
            *("inet_gethost", "memsup", "cpu_sup"),
        }
    )
    port_names = ("amqp", "management", "prometheus", "distribution", "epmd")
    stop_grace_s = 20.0
    start_bound_s = 90.0

    def __init__(
        self, *, tree: RabbitTree | None, options: StackOptions, cancelled: threading.Event
    ) -> None:
        """`tree` None: found or downloaded when it is started."""
        super().__init__(name="rabbitmq", options=options, cancelled=cancelled)
        self._tree = tree

    @property
    def url(self) -> str:
        return f"amqp://{self._login}@{HOST}:{self.endpoint.ports['amqp']}/"

    @property
    def management_url(self) -> str:
        return f"http://{self._login}@{HOST}:{self.endpoint.ports['management']}"

    @property
    def _login(self) -> str:
        return f"{_USER}:{self.endpoint.password(_USER)}"

    @property
    def version(self) -> str:
        return self._tree.version if self._tree else ""

    @property
    def _data(self) -> Path:
        """What one series wrote is never read by another, which could refuse it or change it."""
        root = self.options.broker_root
        return self.home / (f"mnesia-{root.name}" if root else "mnesia")

    def serves(self) -> bool:
        return (
            accepts(self.endpoint.ports["amqp"])
            and Management(self.management_url).answers()
            and amqp_answers(self.url)
        )

    def ready(self) -> bool:
        # It accepts AMQP last, so a refused login is no sign of a start under way.
        if accepts(self.endpoint.ports["amqp"]) and Management(self.management_url).refuses_login():
            raise StackError(
                f"the data in {self.home} were made with other passwords than those in "
                f"{self.endpoint.path}; remove {self.home} to start anew"
            )
        return self.serves()

    def find(self) -> list[psutil.Process]:
        # If our epmd dies, the broker starts one that leaves this directory, but keeps this HOME.
        strays = [
            process
            for process in psutil.process_iter()
            if processes.is_ours(process, home=Path("/"), programs={"epmd"})
            and _home(process) == str(self.home)
        ]
        found = super().find()
        return found + [process for process in strays if process not in found]

    def prepare(self) -> None:
        self.endpoint.password(_USER)
        for name in (*SERVICE_USERS, *self.options.upstream_users):
            self.endpoint.password(name)
        self.endpoint.save()
        self.home.chmod(0o700)
        for folder in (self._data, self.home / "generated"):
            folder.mkdir(exist_ok=True)
        write_private(self.home / "rabbitmq.conf", self._settings())
        write_private(self.home / "enabled_plugins", _PLUGINS)
        write_private(self.home / "advanced.config", "[].\n")

    def _settings(self) -> str:
        ports = self.endpoint.ports
        settings = {
            "listeners.tcp.local": f"{HOST}:{ports['amqp']}",
            "management.tcp.ip": HOST,
            "management.tcp.port": ports["management"],
            "prometheus.tcp.ip": HOST,
            "prometheus.tcp.port": ports["prometheus"],
            "default_user": _USER,
            "default_pass": self.endpoint.password(_USER),
            "default_user_tags.administrator": "true",
            "default_permissions.configure": ".*",
            "default_permissions.write": ".*",
            "default_permissions.read": ".*",
            "heartbeat": 10,
            "max_message_size": 16 * 1024 * 1024,
            "disk_free_limit.absolute": "128MB",
            # The default of 512 MB would let a developer's `.local` grow for nothing.
            "raft.wal_max_size_bytes": 32 * 1024 * 1024,
            # Its output is our log file already.
            "log.console": "true",
            "log.console.use_colors": "off",
            "log.file": "false",
        }
        return "".join(f"{name} = {value}\n" for name, value in settings.items())

    def launch(self) -> subprocess.Popen[bytes]:
        tree = self._tree or obtain_tree(self.options, self._cancelled)
        environment = self._environment(tree)
        # Our own epmd, in the foreground: left to itself the broker starts one that outlives it.
        epmd = ["-port", str(self.endpoint.ports["epmd"]), "-address", HOST]
        processes.spawn(
            [str(tree.epmd), *epmd], home=self.home, log=self.log, environment=environment
        )
        self._await_epmd()
        return processes.spawn(
            [str(tree.server)], home=self.home, log=self.log, environment=environment
        )

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl against this broker; raises StackError with what it said."""
        tree = self._tree or obtain_tree(self.options, self._cancelled)
        try:
            done = subprocess.run(
                [str(tree.server.with_name("rabbitmqctl")), *arguments],
                cwd=self.home,
                env=self._environment(tree),
                capture_output=True,
                text=True,
                check=False,
                timeout=_CONTROL_BOUND_S,
            )
        except subprocess.TimeoutExpired:
            raise StackError(f"rabbitmqctl {arguments[0]} takes too long") from None
        if done.returncode != 0:
            raise StackError(f"rabbitmqctl {arguments[0]} failed: {done.stderr.strip()[-300:]}")

    def _await_epmd(self) -> None:
        deadline = time.monotonic() + _EPMD_BOUND_S
        while not accepts(self.endpoint.ports["epmd"]):
            if time.monotonic() > deadline:
                raise StackError(f"rabbitmq: epmd does not answer; see {self.log}")
            self.check_cancelled()
            time.sleep(0.01)

    def _environment(self, tree: RabbitTree) -> dict[str, str]:
        ports = self.endpoint.ports
        home = self.home
        return {
            "PATH": f"{tree.erlang_folder}:{self.options.search_path}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP_SECONDS": "0",
            # The start script then becomes the broker instead of waiting for it.
            "detached": "true",
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_NODE_PORT": str(ports["amqp"]),
            "RABBITMQ_DIST_PORT": str(ports["distribution"]),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(self.log.parent),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
        }

    def stop(self, *, graceful: bool = True) -> None:
        if graceful and self.alive and self.answers():
            self._detach_statistics()
        super().stop(graceful=graceful)

    def _detach_statistics(self) -> None:
        """Let the management agent's handler go while all of the broker still runs.

        In a shutdown it asks for what is no longer there, and the broker waits 5 s for it. A broker
        that could not be told is stopped all the same, and takes those 5 s.
        """
        tree = self._tree or find_any(self.options)
        if tree is None:
            return
        call = f"rpc:call('{_NODE}', gen_event, delete_handler, [{_STATISTICS}, []])"
        arguments = ["-noinput", "-hidden", "-sname", f"stop-{os.getpid()}@localhost"]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["erl", *_LOOPBACK.split(), *arguments, "-eval", f"{call}, halt()."],
                cwd=self.home,
                env=self._environment(tree),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_DETACH_BOUND_S,
            )

    def login(self, process: str) -> tuple[str, str] | None:
        name = f"{_USER}-{process}"
        password = self.endpoint.passwords.get(name)
        return None if password is None else (name, password)

    def complete(self) -> None:
        put_service_users(self, vhost="/")
        for name in self.options.upstream_users:
            password = self.endpoint.password(name)
            put_upstream_user(self.management_url, name, password=password, vhost="/")

    def upstream_url(self, name: str) -> str | None:
        password = self.endpoint.passwords.get(name)
        if password is None:
            return None
        return f"amqp://{name}:{password}@{HOST}:{self.endpoint.ports['amqp']}/"


def put_service_users(broker: Service, *, vhost: str) -> None:
    """Let the users of our processes do in a virtual host what each needs; only on one of ours."""
    if broker.management_url is None:
        return
    management = Management(broker.management_url)
    for name, permissions in SERVICE_USERS.items():
        login = broker.login(name.removeprefix(f"{_USER}-"))
        if login is not None:
            management.put_user(name, password=login[1])
            management.put_permissions(name, vhost=vhost, permissions=permissions)


def put_upstream_user(management_url: str, name: str, *, password: str, vhost: str) -> None:
    """Make a user that may publish transactions and do nothing else."""
    management = Management(management_url)
    management.put_user(name, password=password)
    management.put_permissions(name, vhost=vhost, permissions=UPSTREAM)


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME")
    except (psutil.Error, OSError):
        return None
