"""What clients send through the doors, on an operator's terminal: shown, and never obeyed."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from cli.escaping import printable
from tests.conftest import Doors
from tests.integration.command_line.calling import Called, Terminal
from tests.support import deposit, eventually

pytestmark = pytest.mark.long

HOSTILE = "x\x1b]0;title\x07\x1b[31m\nall is well\x9b2J\u202e[red]"
SHOWN = r"x\x1b]0;title\x07\x1b[31m\nall is well\x9b2J\u202e[red]"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / ".local"


class Operator(Terminal):
    """An operator's terminal, who is to read all that is printed there."""

    async def call(self, *arguments: str, **variables: str) -> Called:
        """Call the command; whatever it prints is visible characters and lines."""
        called = await super().call(*arguments, **variables)
        for text in (called.out, called.err):
            assert printable(text, keeps_lines=True) == text
            assert "\nall is well" not in text
        return called


@pytest.fixture
def operator(doors: Doors, directory: Path) -> Operator:
    return Operator(doors, directory)


async def buried(doors: Doors, *, body: bytes) -> str:
    """Send a message whose type steers terminals, and return its dead letter's id."""
    await doors.upstream.publish(body, type=HOSTILE, headers={HOSTILE: HOSTILE})

    async def found() -> str | None:
        letters = (await doors.api.get("/v1/dead-letters", reason="unknown_type")).json["items"]
        return next((one["id"] for one in letters if one["body"] == body.decode()), None)

    return str(await eventually(found, what="the dead letter"))


async def test_a_dead_letter_is_listed_shown_and_replayed_without_steering_the_terminal(
    doors: Doors, operator: Operator
) -> None:
    body = f'{{"version":1,"x":"{uuid4()}\N{RIGHT-TO-LEFT OVERRIDE}\x9b\\n"}}\nall is well'.encode()
    letter = await buried(doors, body=body)

    listed, shown, tried = await asyncio.gather(
        operator.call("dead-letters", "list", "--reason", "unknown_type"),
        operator.call("dead-letters", "show", letter),
        operator.call("dead-letters", "replay", letter, "--dry-run"),
    )
    as_json = [
        await operator.call("dead-letters", *arguments, "--json")
        for arguments in (
            ("list", "--reason", "unknown_type"),
            ("show", letter),
            ("replay", letter, "--dry-run"),
        )
    ]

    assert letter in listed.out
    assert SHOWN in shown.out
    assert tried.code == 1
    assert tried.out.startswith(f"{letter}  refused: ")
    assert SHOWN in tried.out
    assert as_json[1].json["body"] == body.decode()
    assert HOSTILE in as_json[1].json["detail"]


async def test_a_transaction_s_texts_are_shown_and_not_obeyed(
    doors: Doors, operator: Operator
) -> None:
    wallet = await doors.api.create_wallet()
    request = {
        **deposit(wallet, "1.00"),
        "description": HOSTILE,
        "metadata": {HOSTILE: HOSTILE},
    }
    made = (await doors.api.submit(request)).json["id"]

    shown = await operator.call("show", made, "--wait", "5")
    as_json = await operator.call("show", made, "--json")

    assert SHOWN in shown.out
    assert as_json.json["description"] == HOSTILE
    assert as_json.json["metadata"] == {HOSTILE: HOSTILE}


async def test_a_file_s_words_are_shown_and_not_obeyed(operator: Operator, directory: Path) -> None:
    file = directory.parent / "hostile.csv"
    head = "idempotency_key,type,amount,currency,wallet"
    file.write_text(f'{head}\nk,"{HOSTILE}",1.00,EUR,a\n', encoding="utf-8")
    wrong = directory.parent / "wrong.csv"
    wrong.write_text(f'"{HOSTILE}",type\nk,deposit\n', encoding="utf-8")

    replayed = await operator.call("replay-file", str(file), "--wallets", "create")
    as_json = await operator.call("replay-file", str(file), "--wallets", "create", "--json")
    refused = await operator.call("replay-file", str(wrong))

    assert (replayed.code, as_json.code, refused.code) == (1, 1, 2)
    assert r"'x\x1b]0;title\x07" in replayed.out
    assert as_json.json["invalid"] == 1
    assert SHOWN in refused.err
