"""Seals as users meet them: a whole system, HTTP, the command line, and a reconciler that dies."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.postgres.pool import connect
from tests.integration.command_line.calling import Called, ackledger
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.seals.sealing import UNGUARD, Database
from tests.support import deposit, eventually
from tools.stack import Stack

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Sealed:
    """A system that seals, with the directory of its keys."""

    doors: CheckedDoors
    keys: Path
    directory: Path

    async def call(self, *arguments: str, with_keys: bool = True) -> Called:
        """Call the command as the system's operator."""
        variables = {"DATABASE_URL": self.doors.database_url}
        if with_keys:
            variables["ACKLEDGER_SEAL_KEYS"] = str(self.keys)
        return await ackledger(*arguments, directory=self.directory, variables=variables)

    async def sealed(self, transactions: int) -> list[Any]:
        """Return all seals, the newest first, once they cover so many transactions."""

        async def look() -> list[Any] | None:
            items = (await self.doors.api.get("/v1/seals", limit="200")).json["items"]
            covered = sum(seal["transactions"] for seal in items)
            return items if covered == transactions else None

        return await eventually(look, what=f"{transactions} sealed transactions")


@pytest.fixture(scope="module")
async def system(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sealed]:
    """A system that seals within moments."""
    directory = tmp_path_factory.mktemp("sealed")
    keys = directory / "seal-keys"
    made = await ackledger(
        "keys",
        "rotate",
        directory=directory / ".local",
        variables={"ACKLEDGER_SEAL_KEYS": str(keys)},
    )
    assert made.code == 0, made.err
    settings = {"ACKLEDGER_SEAL_KEYS": str(keys), "ACKLEDGER_SEAL_INTERVAL_S": "0.2"}
    async with open_doors(stack, template, directory / "system", settings=settings) as doors:
        yield Sealed(doors, keys, directory / ".local")


async def test_before_anything_ended_only_acts_are_sealed(system: Sealed) -> None:
    """The making of the system's own key, for one; until then there is no seal."""

    async def first() -> Any:
        latest = await system.doors.api.get("/v1/seals/latest")
        if latest.status == 200:
            return latest.json
        assert (latest.status, latest.code) == (404, "seal_not_found")
        return None

    seal = await eventually(first, what="a seal over the audit log")

    assert seal["transactions"] == 0
    assert seal["audit_records"] >= 1


async def test_what_is_posted_is_sealed_signed_listed_and_proven(system: Sealed) -> None:
    api = system.doors.api
    wallet = await api.create_wallet()
    for _ in range(3):
        assert (await api.submit(deposit(wallet, "1"))).status == 200
        await asyncio.sleep(0)
    seals = await system.sealed(3)

    latest = (await api.get("/v1/seals/latest")).json
    numbers, cursor = [], None
    while True:
        more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        page = (await api.get("/v1/seals", limit="1", **more)).json
        numbers += [seal["number"] for seal in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    report = await system.call("verify", "--json")
    anchored = await system.call("verify", "--seal", f"{latest['number']}:{latest['digest']}")
    unaware = await system.call("verify", with_keys=False)

    assert latest == seals[0]
    assert latest["key_id"] is not None
    assert numbers == [seal["number"] for seal in seals]
    assert seals[-1]["previous"] == "0" * 64
    assert (report.code, report.json["clean"]) == (0, True)
    assert report.json["seals"] == {
        "number": latest["number"],
        "transactions": 3,
        "signed": latest["number"],
        "signatures_checked": True,
        "latest": f"{latest['number']}:{latest['digest']}",
    }
    assert anchored.code == 0
    assert "signatures not checked: ACKLEDGER_SEAL_KEYS is not set" in unaware.out


async def test_a_reconciler_that_is_killed_goes_on_with_the_same_chain_and_a_new_key(
    system: Sealed,
) -> None:
    api = system.doors.api
    wallet = await api.create_wallet()
    await api.submit(deposit(wallet, "1"))
    await asyncio.to_thread(system.doors.system.kill, "reconciler")
    await api.submit(deposit(wallet, "2"))
    rotated = await system.call("keys", "rotate", "--json")
    await asyncio.to_thread(system.doors.system.restart, "reconciler")

    seals = await system.sealed(5)
    listed = await system.call("keys", "list", "--json")
    for_people = await system.call("keys", "list")
    report = await system.call("verify", "--json")

    assert seals[0]["key_id"] == rotated.json["key_id"]
    assert [key["key_id"] for key in listed.json["items"]] == [
        seals[-1]["key_id"],
        seals[0]["key_id"],
    ]
    assert "PRIVATE" not in listed.out + for_people.out + rotated.out
    assert report.code == 0, report.out


async def test_the_age_and_the_number_of_the_chain_are_metrics(system: Sealed) -> None:
    url = system.doors.system.status_urls["reconciler"]
    latest = (await system.doors.api.get("/v1/seals/latest")).json

    async def look() -> bool:
        text = (await _text(f"{url}/metrics")).splitlines()
        found = dict(line.split() for line in text if line.startswith("ackledger_seal"))
        return (
            float(found["ackledger_seal_number"]) == latest["number"]
            and 0 < float(found["ackledger_seal_age_seconds"]) < 15
            and float(found["ackledger_seal_is_signed"]) == 1
        )

    assert await eventually(look, what="the metrics")


async def test_the_end_of_the_chain_that_is_gone_is_found_by_the_command_and_the_reconciler(
    system: Sealed,
) -> None:
    latest = (await system.doors.api.get("/v1/seals/latest")).json
    connection: Database = await connect(system.doors.database_url, name="test")
    await connection.execute(UNGUARD)
    await connection.execute("DELETE FROM seals WHERE number = $1", latest["number"])

    async def noted() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM integrity_findings WHERE check_name = 'seal_chain')"
            )
        )

    assert await eventually(noted, what="the finding")
    await connection.close()
    beside_the_keys = await system.call("verify", "--json")
    written_down = await system.call(
        "verify", "--json", "--seal", f"{latest['number']}:{latest['digest']}", with_keys=False
    )

    for called in (beside_the_keys, written_down):
        assert called.code == 1
        checks = {(found["check"], found["subject"]) for found in called.json["findings"]}
        assert ("seal_chain", f"seal {latest['number']}") in checks


@pytest.mark.parametrize("text", ["seven", "7:abc"])
async def test_a_wrong_anchor_is_wrong_use(system: Sealed, text: str) -> None:
    called = await system.call("verify", "--seal", text)

    assert called.code == 2
    assert called.err.startswith("ackledger: --seal: ")


async def test_keys_that_cannot_be_used_stop_the_command_and_the_process(
    system: Sealed, tmp_path: Path
) -> None:
    variables = {
        "DATABASE_URL": system.doors.database_url,
        "AMQP_URL": system.doors.amqp_url,
        "ACKLEDGER_SEAL_KEYS": str(tmp_path / "nowhere"),
    }
    for arguments in (("verify",), ("serve", "reconciler")):
        called = await ackledger(*arguments, directory=tmp_path / ".local", variables=variables)

        assert called.code == 2
        assert "ACKLEDGER_SEAL_KEYS: " in called.err
        assert "ackledger keys rotate" in called.err


async def test_keys_without_a_place_are_named(tmp_path: Path) -> None:
    called = await ackledger("keys", "rotate", directory=tmp_path / ".local")

    assert called.code == 2
    assert "ACKLEDGER_SEAL_KEYS is not set" in called.err


async def _text(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()
