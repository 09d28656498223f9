"""The samples in JavaScript and Java do what those in Python do; the collection is understood."""

import json
import shutil
from pathlib import Path
from typing import Final

from tests.conftest import Doors
from tests.end_to_end.client.programs import SAMPLES, output_of
from tests.end_to_end.client.samples import check_publishing, check_submitting
from tools.documents import COLLECTION, DIRECTORY

_LIBRARIES: Final = Path(__file__).parents[2] / ".local" / "samples"
"""Made by deploy/make-samples."""


async def test_fetch_submits_and_waits(doors: Doors) -> None:
    await check_submitting(doors, "node", SAMPLES / "submit.mjs")


async def test_amqplib_publishes(doors: Doors) -> None:
    # Node looks for libraries beside the program.
    program = shutil.copy(SAMPLES / "publish.mjs", _LIBRARIES)
    await check_publishing(doors, "node", program)


async def test_amqp_client_publishes(doors: Doors, tmp_path: Path) -> None:
    jars = ":".join(map(str, sorted((_LIBRARIES / "jars").glob("*.jar"))))
    compiler = ("javac", "-Xlint:all", "-Werror", "-cp", jars, "-d", tmp_path)
    await output_of(doors, *compiler, SAMPLES / "Publish.java")
    await check_publishing(doors, "java", "-cp", f"{tmp_path}:{jars}", "Publish")


async def test_newman_sends_the_collection_and_every_request_is_understood(
    doors: Doors, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    newman = _LIBRARIES / "node_modules" / ".bin" / "newman"
    # What follows events has no end; what signs people in is not set up here.
    folders = ("Wallets", "Transactions", "Webhooks", "Assets", "Dead letters", "Health")
    await output_of(
        doors,
        newman,
        *("run", DIRECTORY / COLLECTION, "--reporters", "json"),
        *("--reporter-json-export", report, "--suppress-exit-code"),
        *("--env-var", f"base_url={doors.system.http_url}"),
        *("--env-var", f"api_key={doors.system.api_key}"),
        *(part for folder in folders for part in ("--folder", folder)),
    )

    executions = json.loads(report.read_text(encoding="utf-8"))["run"]["executions"]
    statuses = {one["item"]["name"]: one["response"]["code"] for one in executions}
    assert statuses["Create a wallet: A wallet of a customer"] == 201
    assert statuses["Submit a transaction: A transfer"] == 202
    assert statuses["Submit up to a thousand transactions: Both or none"] == 202
    # Their ids are examples; whatever needs one is told so, and no body or header is refused.
    refused = {name for name, status in statuses.items() if status not in {200, 201, 202, 404}}
    assert {name for name in refused if not name.startswith(_WITH_ID)} == set()


_WITH_ID: Final = (
    "Read a ", "Change a ", "Delete a ", "List a wallet's", "Reverse a ", "Cancel a ", "Rotate a ",
    "List a webhook's", "Send ", "Replay ", "Discard ",
)  # fmt: skip
"""Of these the id in the path, or a filter, is left to whoever sends them."""


async def test_bruno_imports_the_collection_whole(doors: Doors) -> None:
    program = _LIBRARIES / "import.mjs"
    program.write_text(_IMPORT, encoding="utf-8")
    collection = json.loads((DIRECTORY / COLLECTION).read_text(encoding="utf-8"))

    names = json.loads(await output_of(doors, "node", program, DIRECTORY / COLLECTION))

    assert names == {
        folder["name"]: [item["name"] for item in folder["item"]] for folder in collection["item"]
    }


_IMPORT: Final = """
import { readFileSync } from "node:fs";
import { postmanToBruno } from "@usebruno/converters";
const collection = await postmanToBruno(JSON.parse(readFileSync(process.argv[2], "utf-8")));
const found = collection.collection ?? collection;
const names = found.items.map((folder) => [folder.name, folder.items.map((item) => item.name)]);
console.log(JSON.stringify(Object.fromEntries(names)));
"""
