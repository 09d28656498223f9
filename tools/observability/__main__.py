"""Whether every picture shows something and alerts go off: `make test-observability`.

    python -m tools.observability OBSERVERS [--pictures docs/images]

A private system of all processes, and Debian's Prometheus, Alertmanager and exporters (the folder
OBSERVERS) with the rules of deploy/prometheus. Under some load every target must answer, every
expression of every dashboard and recording rule must give series, and every metric that an alert
names must exist. Then faults, and for each its alerts must be pending, firing and resolved, and
reach a webhook both times. At last the dashboards are drawn. Exit 0 if all is well.
"""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Final

from tools.dashboards.tables import DASHBOARDS
from tools.observability.load import Load
from tools.observability.proof import FAULTS, Proof
from tools.observability.receiver import Receiver
from tools.observability.servers import Watched, observers
from tools.proving import Verdict, private_servers
from tools.stack.ports import HOST, PortClaims
from tools.system import CLIENT, ONE_OF_EACH, System

DIRECTORY: Final = Path(".local/observability")
WARM_S: Final = 60.0
"""Of load, before expressions over a minute are looked at."""
AFTER_S: Final = 30.0
"""Of load after the last fault, for the pictures."""


async def _prove(watched: Watched, upstream_url: str, port: int) -> tuple[Verdict, dict[str, str]]:
    """Return the verdict, and a picture of each dashboard."""
    async with Receiver.opened(port) as receiver:
        load = Load(watched.system, upstream_url=upstream_url, webhook_url=receiver.url)
        async with (
            observers(watched, webhook_url=f"{receiver.url}/alerts") as prometheus,
            load.going_on(),
        ):
            since = time.time()
            await asyncio.sleep(WARM_S)
            proof = Proof(watched, prometheus, receiver)
            await proof.targets()
            await proof.panels()
            await proof.rules()
            for fault in FAULTS:
                await proof.alerts(fault)
            await proof.webhooks()
            await proof.exemplars(since=since, until=time.time())
            await asyncio.sleep(AFTER_S)
            drawn = {
                one.uid: await proof.picture(one, since=since, until=time.time())
                for one in DASHBOARDS
            }
            return proof.verdict, drawn


def main() -> None:
    """Exit 0 if all is well, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("observers", type=Path, help="what deploy/make-prometheus made")
    parser.add_argument("--pictures", type=Path, default=DIRECTORY / "pictures")
    options = parser.parse_args()
    directory = DIRECTORY.absolute()
    with private_servers(directory, upstream_users=(CLIENT,)) as (stack, environment):
        claims = PortClaims()
        port = claims.claim_any()
        # The receiver of its webhooks and of its spans is on this machine.
        own = {
            **environment,
            "ACKLEDGER_WEBHOOK_TARGETS": "any",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{port}",
        }
        system = System(environment=own, directory=directory, instances=ONE_OF_EACH)
        system.start()
        try:
            watched = Watched(system, stack, options.observers.resolve(), directory)
            upstream_url = stack.upstream_url(CLIENT)
            if upstream_url is None:
                raise SystemExit("the private broker has no upstream user")
            verdict, pictures = asyncio.run(_prove(watched, upstream_url, port))
        finally:
            system.stop()
            claims.release()
    options.pictures.mkdir(parents=True, exist_ok=True)
    for uid, text in pictures.items():
        (options.pictures / f"{uid}.svg").write_text(text, encoding="utf-8")
    verdict.end(("what", "seen", ""))


if __name__ == "__main__":
    main()
