"""The containers are pinned, checked and closed; the broker's example user may only submit."""

import base64
import hashlib
import json
import re
from typing import Any, Final

import pytest

from contracts import topology
from contracts.broker_permissions import SERVICE_USERS, UPSTREAM
from runtime.postgres.roles import DatabaseRole
from tests.house.source_tree import ROOT

_COMPOSE: Final = ROOT / "docker-compose.yml"
_BROKER: Final = ROOT / "deploy" / "rabbitmq"
_EXACT_TAG: Final = re.compile(r"[\w./-]+:v?\d+\.\d+\.?\d*(-[\w.]+)?")
_SALT_BYTES: Final = 4
_PROCESSES: Final = ("ingress", "processor", "reconciler", "notifier", "console")


def _services() -> dict[str, str]:
    """Each service's name and text."""
    section = _COMPOSE.read_text(encoding="utf-8").split("\nservices:\n")[1].split("\nvolumes:")[0]
    parts = re.split(r"^  (\w+):\n", section, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _definitions() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_BROKER / "definitions.json").read_text(encoding="utf-8"))
    return content


def _permissions(user: str) -> dict[str, str]:
    (found,) = (each for each in _definitions()["permissions"] if each["user"] == user)
    return {name: found[name] for name in ("configure", "write", "read")}


def _is_password(user: str, password: str) -> bool:
    (found,) = (each for each in _definitions()["users"] if each["name"] == user)
    salted = base64.b64decode(found["password_hash"])
    salt, digest = salted[:_SALT_BYTES], salted[_SALT_BYTES:]
    return hashlib.sha256(salt + password.encode()).digest() == digest


def test_the_containers_are_the_servers_the_migration_and_the_processes() -> None:
    expected = {"postgres", "rabbitmq", "redis", "migrate", "operator", *_PROCESSES}

    assert expected <= _services().keys()


def test_every_foreign_image_has_an_exact_tag() -> None:
    images = re.findall(r"^    image: (\S+)$", _COMPOSE.read_text(encoding="utf-8"), re.MULTILINE)
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    images += re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", dockerfile, re.MULTILINE)

    assert images
    assert [image for image in images if not _EXACT_TAG.fullmatch(image)] == []


def test_no_command_line_of_a_container_holds_a_password() -> None:
    commands = {
        name: found.group(1)
        for name, text in _services().items()
        if (found := re.search(r"^    command:(.*(?:\n {6}.*)*)", text, re.MULTILINE))
    }
    scripts = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "deploy" / "postgres").glob("*.sh")
    )
    psql = [line for line in scripts.splitlines() if line.strip().startswith("psql")]

    assert {"redis", "migrate"} <= commands.keys()
    assert psql
    # What the shell of the container fills in has two dollar signs, and goes by standard input.
    assert [one for one in (*commands.values(), *psql) if re.search(r"PASSWORD", one)] == []
    assert "<<EOF" in commands["redis"]


def test_every_long_running_container_has_a_health_check() -> None:
    without = {name for name, text in _services().items() if "healthcheck:" not in text}

    assert without == {"migrate", "operator"}


def test_ports_are_published_on_loopback_alone() -> None:
    published = [
        line.strip().removeprefix("- ")
        for text in _services().values()
        for ports in re.findall(r"^    ports:\n((?:      .*\n)+)", text, re.MULTILINE)
        for line in ports.splitlines()
    ]

    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_the_image_does_not_run_as_root() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    users = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)

    assert users == [("10001", "10001")]


def test_an_upstream_user_may_write_to_the_transactions_exchange_and_nothing_else() -> None:
    permissions = _permissions("demo")
    others = [topology.EVENTS_EXCHANGE, topology.DEAD_LETTERS, topology.partition_queue(0)]

    assert re.search(permissions["write"], topology.TRANSACTIONS_EXCHANGE)
    for name in [*others, "amq.default", "anything"]:
        assert not re.search(permissions["write"], name)
    for name in [topology.TRANSACTIONS_EXCHANGE, *others, "anything"]:
        assert not re.search(permissions["read"], name)
        assert not re.search(permissions["configure"], name)


def test_the_users_of_the_processes_may_do_what_the_code_says() -> None:
    for name, permissions in SERVICE_USERS.items():
        assert _permissions(name) == permissions._asdict()
    assert _permissions("demo") == UPSTREAM._asdict()


def test_migrate_s_user_may_declare_all_of_the_topology_and_nothing_else() -> None:
    permissions = _permissions("ackledger-migrate")
    names = [exchange.name for exchange in topology.EXCHANGES]
    names += [queue.name for queue in topology.queues(2)]

    for name in names:
        assert all(re.search(pattern, name) for pattern in permissions.values())
    for name in ("amq.default", "billing.results"):
        assert not any(re.search(pattern, name) for pattern in permissions.values())


def test_the_example_passwords_are_those_in_the_compose_file() -> None:
    text = _COMPOSE.read_text(encoding="utf-8")
    users = re.findall(r"//([\w-]+):\$\{\w+_AMQP_PASSWORD:-([\w-]+)\}@", text)

    assert {name for name, _ in users} == {*SERVICE_USERS, "ackledger-admin"}
    for name, password in users:
        assert _is_password(name, password)
    assert _is_password("demo", "demo-local")


def test_only_whoever_makes_upstream_users_administers_the_broker() -> None:
    tags = {user["name"]: user["tags"] for user in _definitions()["users"]}

    assert {name for name, words in tags.items() if words} == {"ackledger-admin"}
    assert "ackledger-admin" in _services()["operator"]
    assert "ackledger-admin" not in "".join(_services()[one] for one in _PROCESSES)


@pytest.mark.parametrize("process", [one for one in _PROCESSES if one != "console"])
def test_a_process_has_users_of_its_own(process: str) -> None:
    text = _services()[process]

    assert re.findall(r"DATABASE_URL: postgresql://(\w+):", text) == [f"ackledger_{process}_login"]
    assert re.findall(r"AMQP_URL: amqp://([\w-]+):", text) == [f"ackledger-{process}"]
    assert f"ackledger_{process}" in list(DatabaseRole)


def test_the_database_s_logins_are_those_of_the_roles() -> None:
    script = (ROOT / "deploy" / "postgres" / "create-logins.sh").read_text(encoding="utf-8")
    [processes] = re.findall(r"^for process in (.+); do$", script, re.MULTILINE)

    assert {f"ackledger_{one}" for one in processes.split()} == set(DatabaseRole)


def test_our_containers_write_nowhere_and_have_no_capabilities() -> None:
    text = _COMPOSE.read_text(encoding="utf-8")
    shared = text.split("\nx-ackledger: &ackledger\n")[1].split("\n\n")[0]

    for line in (
        "read_only: true",
        'cap_drop: ["ALL"]',
        'security_opt: ["no-new-privileges:true"]',
        'tmpfs: ["/tmp"]',
    ):
        assert f"\n  {line}" in shared
    for name in ("migrate", "operator", *_PROCESSES):
        service = _services()[name]
        assert re.search(r"^    <<: (\[\*ackledger, |\*ackledger$)", service, re.MULTILINE)
        for word in ("privileged", "cap_add", "read_only", "user:", "network_mode", "pid:"):
            assert word not in service


def test_the_broker_starts_with_the_plugins_it_needs() -> None:
    text = (_BROKER / "enabled_plugins").read_text(encoding="utf-8")

    assert set(re.findall(r"\w+", text)) == {
        "rabbitmq_consistent_hash_exchange",
        "rabbitmq_management",
        "rabbitmq_prometheus",
    }


def test_the_console_has_no_server_of_its_own() -> None:
    text = _services()["console"]

    assert "DATABASE_URL" not in text
    assert "AMQP_URL" not in text


def test_operators_read_what_each_of_our_users_may() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = {
        name: f"| `{name}` | `{' '.join(repr(one) for one in may)}` |"
        for name, may in SERVICE_USERS.items()
    }
    # A row of a table writes its own sign with a stroke before it, and repr doubles each stroke.
    plain = page.replace("\\|", "|")

    assert [name for name, row in rows.items() if row.replace("\\\\", "\\") not in plain] == []
