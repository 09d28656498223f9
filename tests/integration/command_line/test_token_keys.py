"""`ackledger keys --for tokens`: made, listed, and needed where a setting names them."""

from pathlib import Path

from tests.integration.command_line.calling import ackledger


async def test_keys_of_tokens_are_made_and_listed(directory: Path, tmp_path: Path) -> None:
    variables = {"ACKLEDGER_TOKEN_KEYS": str(tmp_path / "keys")}
    arguments = ("--for", "tokens", "--json")
    made = [
        await ackledger("keys", "rotate", *arguments, directory=directory, variables=variables)
        for _ in range(2)
    ]
    listed = await ackledger("keys", "list", *arguments, directory=directory, variables=variables)

    assert [one["key_id"] for one in listed.json["items"]] == [one.json["key_id"] for one in made]
    assert [one["valid_until"] is None for one in listed.json["items"]] == [False, True]


async def test_the_setting_that_is_missing_is_named(directory: Path) -> None:
    called = await ackledger("keys", "rotate", "--for", "tokens", directory=directory)

    assert called.code == 2
    assert "ACKLEDGER_TOKEN_KEYS is not set" in called.err


async def test_an_ingress_without_the_keys_that_it_was_promised_does_not_start(
    directory: Path, tmp_path: Path, empty_servers: dict[str, str]
) -> None:
    called = await ackledger(
        *("serve", "ingress"),
        directory=directory,
        variables={
            **empty_servers,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "ACKLEDGER_TOKEN_KEYS": str(tmp_path / "none"),
        },
    )

    assert called.code == 2
    assert "ACKLEDGER_TOKEN_KEYS" in called.err
    assert "ackledger keys rotate --for tokens" in called.err
