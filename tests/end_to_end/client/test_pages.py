"""The page of the client and its samples work as they are printed."""

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import Doors
from tests.end_to_end.client.programs import SAMPLES, output_of
from tests.end_to_end.client.samples import check_publishing, check_submitting

_PAGE = SAMPLES.parent / "client.md"
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


async def test_every_block_of_the_page_runs_as_it_is_printed(doors: Doors, tmp_path: Path) -> None:
    blocks = _PYTHON.findall(_PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 8
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")

    output = await output_of(doors, sys.executable, program)

    first, *rest = output.splitlines()
    assert re.fullmatch(r"TXN-[A-Z2-7]{26} COMPLETED", first)
    assert rest[:2] == ["74.50", "25.50"]
    assert any(line.startswith("idempotency_key_reused ") for line in rest)
    assert "transaction.completed" in output
    # Nobody has closed it, and nothing complains.
    assert "Unclosed" not in output


@pytest.mark.parametrize("command", [["bash", "submit.sh"], [sys.executable, "submit.py"]])
async def test_a_sample_submits_and_waits(doors: Doors, command: list[str]) -> None:
    program, sample = command
    await check_submitting(doors, program, SAMPLES / sample)


async def test_the_sample_with_aio_pika_publishes(doors: Doors) -> None:
    await check_publishing(doors, sys.executable, SAMPLES / "publish.py")
