"""The database's enums are the Python enums."""

import re
from enum import StrEnum
from typing import Final

from contracts.people import LoginOutcome, TokenPurpose, UserStatus
from contracts.requests.transaction import Channel
from contracts.scopes import Reach, Role
from ledger.words import (
    FailureCode,
    HoldStatus,
    ReviewState,
    RuleAction,
    RuleKind,
    TransactionStatus,
    TransactionType,
    WalletKind,
    WalletStatus,
)
from tests.house.source_tree import ROOT

PYTHON: Final[dict[str, type[StrEnum]]] = {
    "failure_code": FailureCode,
    "transaction_channel": Channel,
    "transaction_status": TransactionStatus,
    "transaction_type": TransactionType,
    "hold_status": HoldStatus,
    "login_outcome": LoginOutcome,
    "user_role": Role,
    "user_status": UserStatus,
    "user_token_purpose": TokenPurpose,
    "reach": Reach,
    "review_state": ReviewState,
    "rule_action": RuleAction,
    "rule_kind": RuleKind,
    "wallet_kind": WalletKind,
    "wallet_status": WalletStatus,
}
_CREATED: Final = re.compile(r"^\s*CREATE TYPE (\w+) AS ENUM \(([^)]*)\)", re.MULTILINE)
_ADDED: Final = re.compile(
    r"^\s*ALTER TYPE (\w+)\s+ADD VALUE (?:IF NOT EXISTS )?'([^']+)'", re.MULTILINE
)


def _database_enums() -> dict[str, set[str]]:
    """What the migrations leave behind, read in their order."""
    enums: dict[str, set[str]] = {}
    for path in sorted((ROOT / "migrations").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        for name, labels in _CREATED.findall(text):
            enums[name] = set(re.findall(r"'([^']+)'", labels))
        for name, label in _ADDED.findall(text):
            enums[name].add(label)
    return enums


def test_every_enum_of_the_database_equals_its_python_enum() -> None:
    expected = {name: {member.value for member in kind} for name, kind in PYTHON.items()}

    assert expected == _database_enums()
