"""Findings are all counted, and only the first of them are kept."""

from verification.checks import (
    Check,
    Finding,
    Findings,
    SealsReport,
    VerificationReport,
    wallet_findings,
)

_FINDING = Finding(Check.WALLET_BALANCE, "wallet 1", "the balance is 2, the entries sum to 1")


def _report(findings: Findings) -> VerificationReport:
    return VerificationReport(
        wallets=1,
        transactions=2,
        entries=3,
        by_status={"COMPLETED": 2},
        seals=SealsReport(
            number=4, transactions=2, signed=0, are_signatures_checked=False, latest="4:00"
        ),
        findings=findings.held,
        findings_total=findings.total,
    )


def test_findings_beyond_the_bound_are_counted_and_not_kept() -> None:
    findings = Findings(held_max=2)

    findings.add([_FINDING] * 5)

    assert findings.held == (_FINDING, _FINDING)
    assert findings.total == 5


def test_findings_that_were_only_counted_make_a_report_unclean() -> None:
    findings = Findings(held_max=0)

    findings.add([], total=7)

    assert not _report(findings).clean


def test_a_report_says_how_many_findings_it_leaves_out() -> None:
    findings = Findings(held_max=1)
    findings.add([_FINDING] * 3)

    shown = _report(findings).to_json()

    assert list(shown) == [
        "clean",
        "wallets",
        "transactions",
        "entries",
        "by_status",
        "seals",
        "findings",
    ]
    assert shown["seals"] == {
        "number": 4,
        "transactions": 2,
        "signed": 0,
        "signatures_checked": False,
        "latest": "4:00",
    }
    assert shown["findings"] == [
        {
            "check": "wallet_balance",
            "subject": "wallet 1",
            "detail": "the balance is 2, the entries sum to 1",
        },
        {"check": "omitted", "subject": "findings", "detail": "2 more"},
    ]


def test_an_external_wallet_may_be_as_far_below_zero_as_it_likes() -> None:
    row = {
        "wallet_id": "external",
        "currency": "EUR",
        "kind": "external",
        "balance": -5,
        "available": -5,
        "held": 0,
        "on_hold": 0,
        "forced_overdraft": 0,
        "version": 1,
        "entries": 1,
        "total": -5,
        "first_sequence": 1,
        "last_sequence": 1,
    }

    assert list(wallet_findings(row)) == []
    assert [one.check for one in wallet_findings({**row, "kind": "customer"})] == [
        Check.WALLET_AVAILABLE
    ]
