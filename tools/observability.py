"""Whether every picture shows something and alerts go off: `make test-observability`.

    python -m tools.observability PROMETHEUS

A private system of all processes and Debian's Prometheus (the folder PROMETHEUS), with the rules of
deploy/prometheus. Under some load every expression of every dashboard and recording rule must give
series, and every metric that an alert names must exist (those of other exporters excepted). Then
three faults, and for each the alert must be pending, firing and resolved. Exit 0 if all is well.
"""

import argparse
import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from tools.chaos.background import running
from tools.dashboards.tables import DASHBOARDS
from tools.proving import Verdict, private_servers
from tools.stack.ports import PortClaims
from tools.system import ONE_OF_EACH, System

ROOT: Final = Path(__file__).parents[1]
DIRECTORY: Final = Path(".local/observability")
RULES: Final = ROOT / "deploy/prometheus/rules"
SCRAPE_S: Final = 1
WARM_S: Final = 45.0
"""Of load, before expressions over a minute are looked at."""
ALERT_S: Final = 120.0
"""For an alert to go off, or to be resolved: the longest `for` of the three is a minute."""
FOREIGN: Final = ("pg_", "node_", "rabbitmq_")
"""Metrics of exporters that are not part of this."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done, and which alert it has to set off."""

    alert: str
    strike: Callable[[System], None]
    mend: Callable[[System], None]


FAULTS: Final = (
    Fault(
        "AckledgerTargetDown",
        lambda system: system.kill("notifier"),
        lambda system: system.restart("notifier"),
    ),
    Fault(
        "AckledgerNoLeader",
        lambda system: system.halt("reconciler"),
        lambda system: system.restart("reconciler"),
    ),
    Fault(
        "AckledgerNoConsumer",
        lambda system: system.halt("processor"),
        lambda system: system.restart("processor"),
    ),
)


class Prometheus:
    """Debian's Prometheus, asked over its API."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def query(self, expression: str) -> list[Any]:
        """Return the series of an expression now; raises ValueError for one that is wrong."""
        answer = await self._get("query", query=expression)
        if answer["status"] != "success":
            raise ValueError(f"{expression}: {answer.get('error')}")
        return list(answer["data"]["result"])

    async def state_of(self, alert: str) -> str:
        """Return how an alert stands: inactive, pending or firing."""
        answer = await self._get("alerts")
        states = {
            one["state"] for one in answer["data"]["alerts"] if one["labels"]["alertname"] == alert
        }
        return "firing" if "firing" in states else "pending" if states else "inactive"

    async def ready(self) -> None:
        """Return when it answers."""
        async with asyncio.timeout(30):
            while True:
                try:
                    if await self.query("vector(1)"):
                        return
                except (aiohttp.ClientError, KeyError):
                    pass
                await asyncio.sleep(0.2)

    async def _get(self, path: str, **query: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._url}/api/v1/{path}", params=query) as response,
        ):
            return await response.json()


def configuration(system: System) -> str:
    """Return Prometheus's configuration for the ports of a system."""
    jobs = [
        f"  - job_name: ackledger-{name}\n    static_configs:\n"
        f"      - targets: ['{url.removeprefix('http://')}']\n"
        for name, url in system.status_urls.items()
    ]
    return (
        f"global:\n  scrape_interval: {SCRAPE_S}s\n  evaluation_interval: {SCRAPE_S}s\n"
        f"rule_files: ['{RULES}/*.yml']\nscrape_configs:\n{''.join(jobs)}"
    )


@asynccontextmanager
async def prometheus(folder: Path, system: System) -> AsyncIterator[Prometheus]:
    """Run Prometheus as long as the block lasts."""
    claims = PortClaims()
    port = claims.claim_any()
    claims.release()
    config = DIRECTORY / "prometheus.yml"
    config.write_text(configuration(system), encoding="utf-8")
    process = _started(folder, config, port)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        await found.ready()
        yield found
    finally:
        process.terminate()
        process.wait()


def _started(folder: Path, config: Path, port: int) -> "subprocess.Popen[bytes]":
    with (DIRECTORY / "prometheus.log").open("wb") as log:
        return subprocess.Popen(
            [
                folder / "usr/bin/prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={DIRECTORY / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def _load(system: System) -> None:
    """Submit deposits, transfers and one that is refused, until cancelled."""
    headers = {"Authorization": f"Bearer {system.api_key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(system.http_url, headers=headers) as session:
        wallets = []
        for _ in range(2):
            async with session.post("/v1/wallets", data=b'{"currency":"EUR"}') as response:
                wallets.append((await response.json())["id"])
        number = 0
        while True:
            number += 1
            body: dict[str, Any] = {"amount": "1.00", "currency": "EUR", "type": "deposit"}
            body["destination_wallet_id"] = wallets[number % 2]
            if number % 3 == 0:
                body |= {"type": "transfer", "source_wallet_id": wallets[(number + 1) % 2]}
            if number % 10 == 0:
                body |= {"amount": "999999.00"}
            key = {"Idempotency-Key": f"load-{time.time_ns()}"}
            async with session.post(
                "/v1/transactions", data=orjson.dumps(body), headers=key
            ) as response:
                await response.read()
            await asyncio.sleep(0.02)


class Proof:
    """What was looked at, and what came of it."""

    def __init__(self, found: Prometheus) -> None:
        self._prometheus = found
        self.verdict = Verdict()

    async def pictures(self) -> None:
        """Every line of every panel gives series."""
        for dashboard in DASHBOARDS:
            lines = [
                (panel.title, expression)
                for panel in dashboard.panels
                for expression in panel.lines.values()
            ]
            empty = [
                title
                for title, expression in lines
                if not expression.startswith(("sum(rabbitmq", "max(rabbitmq"))
                and not await self._prometheus.query(expression)
            ]
            told = f"{len(lines)} lines" if not empty else f"without series: {empty}"
            self.verdict.note(dashboard.title, told, is_well=not empty)

    async def rules(self) -> None:
        """Every recording rule gives series, and every metric that an alert names exists."""
        text = "".join(path.read_text() for path in sorted(RULES.glob("*.yml")))
        recorded = re.findall(r"- record: (\S+)", text)
        # Hours have not passed: what looks at the last six gives the same as the last minute's.
        empty = [name for name in recorded if not await self._prometheus.query(name)]
        self.verdict.note(
            f"{len(recorded)} recording rules", str(empty or "all"), is_well=not empty
        )
        named = set(re.findall(r"\b(?:ackledger|pg|node|rabbitmq)_[a-z_]+\b(?=[{\[) ])", text))
        ours = {one for one in named if not one.startswith(FOREIGN)}
        missing = [one for one in sorted(ours) if not await self._prometheus.query(one)]
        self.verdict.note(
            f"{len(ours)} metrics of rules", str(missing or "all"), is_well=not missing
        )

    async def alert(self, fault: Fault, system: System) -> None:
        """An alert is pending and firing while a fault lasts, and resolved after it."""
        await asyncio.to_thread(fault.strike, system)
        seen = []
        try:
            seen += [await self._reached(fault.alert, one) for one in ("pending", "firing")]
        finally:
            await asyncio.to_thread(fault.mend, system)
        seen.append(await self._reached(fault.alert, "inactive"))
        self.verdict.note(fault.alert, ", ".join(seen), is_well="never" not in seen)

    async def _reached(self, alert: str, wanted: str) -> str:
        until = time.monotonic() + ALERT_S
        while time.monotonic() < until:
            state = await self._prometheus.state_of(alert)
            # Whoever looks late finds it firing already.
            if state == wanted or (wanted == "pending" and state == "firing"):
                return "resolved" if wanted == "inactive" else wanted
            await asyncio.sleep(0.5)
        return "never"


async def _prove(folder: Path, system: System) -> Proof:
    async with prometheus(folder, system) as found, running(_load(system)):
        await asyncio.sleep(WARM_S)
        proof = Proof(found)
        await proof.pictures()
        await proof.rules()
        for fault in FAULTS:
            await proof.alert(fault, system)
        return proof


def main() -> None:
    """Exit 0 if all is well, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prometheus", type=Path, help="what deploy/make-prometheus made")
    folder = parser.parse_args().prometheus.resolve()
    directory = DIRECTORY.absolute()
    with private_servers(directory) as (_, environment):
        system = System(environment=environment, directory=directory, instances=ONE_OF_EACH)
        system.start()
        try:
            proof = asyncio.run(_prove(folder, system))
        finally:
            system.stop()
    proof.verdict.end(("what", "seen", ""))


if __name__ == "__main__":
    main()
