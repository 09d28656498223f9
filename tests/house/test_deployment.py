"""The containers are pinned, checked and closed; the broker's example user may only submit."""

import base64
import hashlib
import json
import re
from typing import Any, Final

from contracts import topology
from tests.house.source_tree import ROOT

_COMPOSE: Final = ROOT / "docker-compose.yml"
_BROKER: Final = ROOT / "deploy" / "rabbitmq"
_EXACT_TAG: Final = re.compile(r"[\w./-]+:\d+\.\d+\.?\d*(-[\w.]+)?")
_SALT_BYTES: Final = 4


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
    expected = {"postgres", "rabbitmq", "redis", "migrate", "ingress", "processor", "reconciler"}
    expected |= {"notifier"}

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
    script = (ROOT / "deploy" / "postgres" / "create-database.sh").read_text(encoding="utf-8")
    psql = [line for line in script.splitlines() if line.startswith("psql")]

    assert {"redis", "migrate"} <= commands.keys()
    assert psql
    # What the shell of the container fills in has two dollar signs, and goes by standard input.
    assert [one for one in (*commands.values(), *psql) if re.search(r"PASSWORD", one)] == []
    assert "<<EOF" in commands["redis"]


def test_every_long_running_container_has_a_health_check() -> None:
    without = {name for name, text in _services().items() if "healthcheck:" not in text}

    assert without == {"migrate"}


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


def test_the_service_s_user_may_declare_publish_and_consume_its_own() -> None:
    permissions = _permissions("ackledger")
    names = [exchange.name for exchange in topology.EXCHANGES]
    names += [queue.name for queue in topology.queues(2)]

    for name in names:
        assert all(re.search(pattern, name) for pattern in permissions.values())
    assert re.search(permissions["write"], "amq.default")
    assert not re.search(permissions["configure"], "amq.default")


def test_the_example_passwords_are_those_in_the_compose_file() -> None:
    (password,) = re.findall(r"AMQP_PASSWORD:-([\w-]+)", _COMPOSE.read_text(encoding="utf-8"))

    assert _is_password("ackledger", password)
    assert _is_password("demo", "demo-local")


def test_the_broker_starts_with_the_plugins_it_needs() -> None:
    text = (_BROKER / "enabled_plugins").read_text(encoding="utf-8")

    assert set(re.findall(r"\w+", text)) == {
        "rabbitmq_consistent_hash_exchange",
        "rabbitmq_management",
        "rabbitmq_prometheus",
    }
