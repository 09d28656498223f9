"""The samples in JavaScript and Java do what those in Python do."""

import shutil
from pathlib import Path
from typing import Final

from tests.conftest import Doors
from tests.end_to_end.client.programs import SAMPLES, output_of
from tests.end_to_end.client.samples import check_publishing, check_submitting

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
