"""Debian's Prometheus, Alertmanager and exporters around a system, started and ended together."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from tools.proving import where_programs_are
from tools.stack import Stack
from tools.stack.ports import HOST, PortClaims
from tools.system import System

RULES: Final = Path(__file__).parents[2] / "deploy/prometheus/rules"
SCRAPE_S: Final = 1
READY_S: Final = 30.0
_LOOK_S: Final = 0.2
_PROGRAMS: Final = ("prometheus", "alertmanager", "node-exporter", "postgres-exporter")


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched, and where the observers' files are."""

    system: System
    stack: Stack
    folder: Path
    """What deploy/make-prometheus made."""
    directory: Path


class Prometheus:
    """Prometheus and Alertmanager, asked over their API."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def query(self, expression: str) -> list[Any]:
        """Return the series of an expression now; raises ValueError for one that is wrong."""
        return await self._result("query", query=expression)

    async def query_range(
        self, expression: str, *, since: float, until: float, step_s: float
    ) -> list[Any]:
        """Return the series of an expression over a time; moments are Unix seconds."""
        times = {"start": str(since), "end": str(until), "step": str(step_s)}
        return await self._result("query_range", query=expression, **times)

    async def exemplars(self, metric: str, *, since: float, until: float) -> list[Any]:
        """Return the exemplars that are kept of a metric."""
        answer = await self._get("query_exemplars", query=metric, start=str(since), end=str(until))
        return list(answer["data"])

    async def unhealthy_targets(self) -> list[str]:
        """Return the jobs that cannot be scraped, each with why."""
        answer = await self._get("targets", state="active")
        return [
            f"{one['labels']['job']}: {one['lastError']}"
            for one in answer["data"]["activeTargets"]
            if one["health"] != "up"
        ]

    async def state_of(self, alert: str) -> str:
        """Return how an alert stands: inactive, pending or firing."""
        answer = await self._get("alerts")
        states = {
            one["state"] for one in answer["data"]["alerts"] if one["labels"]["alertname"] == alert
        }
        return "firing" if "firing" in states else "pending" if states else "inactive"

    async def ready(self) -> None:
        """Return when it answers."""
        async with asyncio.timeout(READY_S):
            while True:
                try:
                    if await self.query("vector(1)"):
                        return
                except (aiohttp.ClientError, KeyError):
                    pass
                await asyncio.sleep(_LOOK_S)

    async def _result(self, path: str, **query: str) -> list[Any]:
        answer = await self._get(path, **query)
        if answer["status"] != "success":
            raise ValueError(f"{query['query']}: {answer.get('error')}")
        return list(answer["data"]["result"])

    async def _get(self, path: str, **query: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._url}/api/v1/{path}", params=query) as response,
        ):
            return await response.json()


def prometheus_yaml(watched: Watched, ports: Mapping[str, int]) -> str:
    """Return Prometheus's configuration: the jobs' names are those of deploy/prometheus."""
    targets = {
        f"ackledger-{name}": url.removeprefix("http://")
        for name, url in watched.system.status_urls.items()
    }
    targets["rabbitmq"] = f"{HOST}:{watched.stack.rabbitmq.ports['prometheus']}"
    targets |= {name: f"{HOST}:{ports[name]}" for name in ("node-exporter", "postgres-exporter")}
    jobs = "".join(
        f"  - job_name: {job}\n    static_configs: [{{targets: ['{target}']}}]\n"
        for job, target in targets.items()
    )
    return (
        f"global: {{scrape_interval: {SCRAPE_S}s, evaluation_interval: {SCRAPE_S}s}}\n"
        f"rule_files: ['{RULES}/*.yml']\n"
        "alerting:\n  alertmanagers:\n"
        f"    - static_configs: [{{targets: ['{HOST}:{ports['alertmanager']}']}}]\n"
        f"scrape_configs:\n{jobs}"
    )


def alertmanager_yaml(webhook_url: str) -> str:
    """Return Alertmanager's configuration: each alert goes to a webhook, and so does its end."""
    return (
        "route: {receiver: webhook, group_by: [alertname], group_wait: 1s, group_interval: 1s}\n"
        "receivers:\n  - name: webhook\n"
        f"    webhook_configs: [{{url: '{webhook_url}', send_resolved: true}}]\n"
    )


@asynccontextmanager
async def observers(watched: Watched, *, webhook_url: str) -> AsyncIterator[Prometheus]:
    """Run all four as long as the block lasts."""
    claims = PortClaims()
    ports = {name: claims.claim_any() for name in _PROGRAMS}
    claims.release()
    (watched.directory / "prometheus.yml").write_text(prometheus_yaml(watched, ports), "utf-8")
    (watched.directory / "alertmanager.yml").write_text(alertmanager_yaml(webhook_url), "utf-8")
    with _programs(watched, ports) as started:
        found = Prometheus(f"http://{HOST}:{ports['prometheus']}")
        await found.ready()
        ended = [name for name, process in started.items() if process.poll() is not None]
        if ended:
            raise SystemExit(f"{ended[0]} has ended: see {watched.directory / ended[0]}.log")
        yield found


@contextmanager
def _programs(
    watched: Watched, ports: Mapping[str, int]
) -> "Iterator[dict[str, subprocess.Popen[bytes]]]":
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, arguments in _arguments(watched.directory).items():
            started[name] = _started(watched, name, arguments, ports[name])
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()


def _arguments(directory: Path) -> dict[str, Sequence[str]]:
    return {
        "prometheus": (
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            "--enable-feature=exemplar-storage",
        ),
        "alertmanager": (
            f"--config.file={directory / 'alertmanager.yml'}",
            f"--storage.path={directory / 'alertmanager'}",
            # One that is alone listens to no others.
            "--cluster.listen-address=",
        ),
        "node-exporter": (),
        "postgres-exporter": (),
    }


def _started(
    watched: Watched, name: str, arguments: Sequence[str], port: int
) -> "subprocess.Popen[bytes]":
    program = "prometheus" if name == "prometheus" else f"prometheus-{name}"
    url = watched.stack.postgres.superuser_url or watched.stack.postgres.url
    with (watched.directory / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [
                str(watched.folder / "usr/bin" / program),
                f"--web.listen-address={HOST}:{port}",
                *arguments,
            ],
            # The exporter's password: not on its command line, which everybody can read.
            env={**where_programs_are(), "DATA_SOURCE_NAME": f"{url}?sslmode=disable"},
            # Where Alertmanager finds its templates: see deploy/make-prometheus.
            cwd=watched.folder / "usr/share/prometheus/alertmanager",
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
