"""Keys of seals: private ones stay private, public ones say when they were valid."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from runtime.service.key_directory import OVERLAP, SigningKeyError, key_id_of
from verification.seal_keys import Anchor, SealKeys

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DIGEST = bytes(range(32))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where nothing is yet."""
    return tmp_path / "deeper" / "seal-keys"


@pytest.fixture
def keys(directory: Path) -> SealKeys:
    """A directory with a first key."""
    keys = SealKeys(directory)
    keys.rotate(NOW)
    return keys


def test_a_signature_is_believed_under_its_key(keys: SealKeys) -> None:
    signer = keys.signer()

    assert len(signer.sign(DIGEST)) == 64
    assert signer.key_id == key_id_of(signer.public_key)
    assert (
        keys.trusted().problem_with(
            key_id=signer.key_id, signature=signer.sign(DIGEST), digest=DIGEST, at=NOW
        )
        is None
    )


@pytest.mark.parametrize(
    ("key_id", "digest", "at", "problem"),
    [
        (None, bytes(32), NOW, "is not that of key"),
        ("0" * 16, DIGEST, NOW, "a key that is not trusted: 0000000000000000"),
        (None, DIGEST, NOW - timedelta(hours=1), "was not valid"),
    ],
)
def test_anything_else_is_told_in_words(
    keys: SealKeys, key_id: str | None, digest: bytes, at: datetime, problem: str
) -> None:
    signer = keys.signer()

    told = keys.trusted().problem_with(
        key_id=key_id or signer.key_id, signature=signer.sign(DIGEST), digest=digest, at=at
    )

    assert told is not None
    assert problem in told


def test_the_private_key_is_its_owner_s_alone_and_gone_after_a_rotation(
    keys: SealKeys, directory: Path
) -> None:
    first = (directory / "signing.pem").read_bytes()
    assert stat.S_IMODE((directory / "signing.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    keys.rotate(NOW + timedelta(days=30))

    everything = b"".join(path.read_bytes() for path in directory.iterdir())
    assert b"PRIVATE" in first
    assert first not in everything
    assert everything.count(b"BEGIN PRIVATE KEY") == 1


def test_a_retired_key_is_believed_for_the_overlap_and_no_longer(keys: SealKeys) -> None:
    old = keys.signer()
    signature = old.sign(DIGEST)
    rotated_at = NOW + timedelta(days=30)
    keys.rotate(rotated_at)

    problems = [
        keys.trusted().problem_with(
            key_id=old.key_id, signature=signature, digest=DIGEST, at=rotated_at + after
        )
        for after in (OVERLAP, OVERLAP + timedelta(seconds=1))
    ]

    assert problems[0] is None
    assert problems[1] is not None
    assert keys.signer().key_id != old.key_id
    assert [key.valid_until for key in keys.trusted().keys] == [rotated_at + OVERLAP, None]


def test_a_second_rotation_does_not_prolong_an_older_key(keys: SealKeys) -> None:
    keys.rotate(NOW + timedelta(days=1))
    keys.rotate(NOW + timedelta(days=9))

    first, *_ = keys.trusted().keys
    assert first.valid_until == NOW + timedelta(days=1) + OVERLAP


def test_a_key_that_others_can_read_is_not_used(keys: SealKeys, directory: Path) -> None:
    (directory / "signing.pem").chmod(0o644)

    with pytest.raises(SigningKeyError, match="chmod 600"):
        keys.signer()


def test_what_is_no_key_is_named_and_never_repeated(directory: Path) -> None:
    directory.mkdir(parents=True)
    path = directory / "signing.pem"
    elliptic = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for content in (b"", b"hidden-word", elliptic):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SigningKeyError) as caught:
            SealKeys(directory).signer()
        assert str(path) in str(caught.value)
        assert "hidden-word" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_missing_directory_says_what_to_do(directory: Path) -> None:
    keys = SealKeys(directory)

    with pytest.raises(SigningKeyError, match="run: ackledger keys rotate"):
        keys.signer()
    with pytest.raises(SigningKeyError, match="run: ackledger keys rotate"):
        keys.trusted()
    assert keys.latest() is None


@pytest.mark.parametrize(
    "change",
    [
        {"keys": []},
        {"keys": [{"key_id": "0" * 16}]},
        {"keys": 7},
        {},
    ],
)
def test_a_damaged_list_of_keys_is_refused(keys: SealKeys, directory: Path, change: object) -> None:
    (directory / "trusted.json").write_bytes(orjson.dumps(change))

    with pytest.raises(SigningKeyError, match=r"trusted\.json"):
        keys.trusted()


def test_a_key_under_another_s_name_is_refused(keys: SealKeys, directory: Path) -> None:
    path = directory / "trusted.json"
    document = orjson.loads(path.read_bytes())
    document["keys"][0]["key_id"] = "0" * 16
    path.write_bytes(orjson.dumps(document))

    with pytest.raises(SigningKeyError, match="is not the id of its key"):
        keys.trusted()


def test_the_latest_seal_is_remembered(keys: SealKeys, directory: Path) -> None:
    keys.note_latest(Anchor(7, DIGEST))
    keys.note_latest(Anchor(8, DIGEST))

    assert SealKeys(directory).latest() == Anchor(8, DIGEST)
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["latest", "signing.pem", "trusted.json"]


def test_an_anchor_is_read_as_it_is_written() -> None:
    anchor = Anchor(4711, DIGEST)

    assert Anchor.of_text(f" {anchor}\n") == anchor


@pytest.mark.parametrize("text", ["", "7", "7:", ":aa", "0:" + "aa" * 32, "7:" + "aa" * 31, "7:zz"])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"digest|hexadecimal"):
        Anchor.of_text(text)
