"""A campaign goes on where it was interrupted, survives runs that fail, and tells what it found."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.chaos.campaign import (
    Campaign,
    CampaignRunner,
    Ending,
    RunResult,
    ending_of,
    read_results,
    tree_hash,
)
from tools.chaos.campaign_page import BEGINS, ENDS, campaign_page, seeds_text, write_page

_FAULT: Mapping[str, Any] = {
    "fault": "link-cut",
    "target": "ingress-rabbitmq",
    "claim": "the others go on",
    "in_flight": 12,
    "recovery_s": 1.5,
    "recovery_bound_s": 10.0,
    "trouble": None,
    "is_well": True,
}
_WELL: Mapping[str, Any] = {
    "is_well": True,
    "shape": {"http": "fast", "partitions": 4, "batch_size": 40},
    "faults": [_FAULT],
    "breaches": [],
    "unresolved": 0,
    "drained_s": 0.5,
    "is_every_event_read": True,
    "followed_s": 0.2,
    "delivered_s": 1.5,
    "counts": {"attempts": 1000},
    "kinds": {"hold": {"asked": 1200, "posted": 1100, "failed": 100}},
    "revivals": {"ingress": 1},
    "servers": {"rabbitmq": "3.10.8"},
}
_BREACH = {"invariant": "O", "subject": "key k", "detail": "overtaken"}


def _report(**changes: Any) -> dict[str, Any]:
    return {**_WELL, **changes}


def _result(seed: int, **changes: Any) -> RunResult:
    report = _report(**changes)
    return RunResult(seed=seed, ending=ending_of(report), wall_s=50.0, report=report)


def _campaign(directory: Path, *seeds: int, arguments: tuple[str, ...] = ()) -> Campaign:
    return Campaign(
        directory=directory,
        seeds=seeds,
        jobs=1,
        seconds=6,
        arguments=arguments,
        environment=dict(os.environ),
    )


@pytest.mark.parametrize(
    ("report", "ending"),
    [
        ({}, Ending.NO_VERDICT),
        (_report(), Ending.WELL),
        (_report(is_well=False, breaches=[_BREACH]), Ending.BREACH),
        (_report(is_well=False, unresolved=1), Ending.BREACH),
        (_report(is_well=False, drained_s=None), Ending.BREACH),
        (_report(is_well=False, is_every_event_read=False), Ending.BREACH),
        (_report(is_well=False, followed_s=None), Ending.BREACH),
        (_report(is_well=False, delivered_s=None), Ending.BREACH),
        (_report(is_well=False, faults=[{**_FAULT, "trouble": "it"}]), Ending.NO_VERDICT),
        (_report(is_well=False, faults=[{**_FAULT, "is_well": False}]), Ending.SLOW),
        (
            _report(is_well=False, breaches=[_BREACH], faults=[{**_FAULT, "trouble": "it"}]),
            Ending.BREACH,
        ),
    ],
)
def test_a_run_ends_by_the_worst_of_its_findings(report: dict[str, Any], ending: Ending) -> None:
    assert ending_of(report) is ending


def test_a_line_that_was_cut_short_is_no_result_and_the_last_of_a_seed_counts(
    tmp_path: Path,
) -> None:
    file = tmp_path / "results.jsonl"
    first, second = _result(1, is_well=False, breaches=[_BREACH]), _result(1)
    file.write_bytes(first.to_line() + second.to_line() + _result(2).to_line()[:-20])

    assert read_results(file) == [second]


def test_other_code_or_other_arguments_are_another_campaign(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "one.py").write_text("x = 1\n")
    before = tree_hash(tmp_path)
    (tmp_path / "cli" / "one.py").write_text("x = 2\n")

    assert tree_hash(tmp_path) != before
    assert tree_hash() == tree_hash()
    plain, pinned = _campaign(tmp_path, 1), _campaign(tmp_path, 1, arguments=("--http", "fast"))
    assert plain.results != pinned.results


async def test_seeds_with_a_verdict_are_not_run_again(tmp_path: Path) -> None:
    campaign = _campaign(tmp_path, 1, 2)
    known = [_result(1), _result(2, is_well=False, breaches=[_BREACH]), _result(9)]
    campaign.results.write_bytes(b"".join(one.to_line() for one in known))
    shown: list[str] = []

    results = await CampaignRunner(campaign, progress=shown.append).run()

    assert results == known[:2]
    assert shown == []


async def test_runs_that_fail_are_told_kept_and_tried_again(tmp_path: Path) -> None:
    campaign = _campaign(tmp_path, 1, 2, arguments=("--faults", "unheard-of"))
    before = RunResult(seed=1, ending=Ending.NO_VERDICT, wall_s=99.0, report={})
    campaign.results.write_bytes(before.to_line() + _result(2).to_line())
    shown: list[str] = []

    first, second = await CampaignRunner(campaign, progress=shown.append).run()

    assert (first.ending, second.ending) == (Ending.NO_VERDICT, Ending.WELL)
    assert first != before
    assert "unheard-of" in (tmp_path / "seed-1.log").read_text()
    assert "2 of 2" in shown[-1]


def test_the_page_tells_every_ending_every_fault_and_every_breach() -> None:
    slow = {**_FAULT, "target": None, "fault": "broker-killed", "recovery_s": 12.0}
    results = [
        _result(1),
        _result(2),
        _result(3, is_well=False, breaches=[_BREACH] * 7),
        _result(5, is_well=False, faults=[{**slow, "is_well": False}]),
    ]

    page = campaign_page(results, command="ackledger chaos --campaign 4")

    assert "- well: 2 (seeds 1-2)" in page
    assert "- breach: 1 (seeds 3)" in page
    assert "RabbitMQ 3.10.8; 4 strikes; 4,000 attempts." in page
    assert "| hold | 4 | 4,800 | 4,400 | 400 |" in page
    assert "| `link-cut` | the others go on | 3 | 3 | 12 | 1.5 s | 1.5 s | 10 s | 1 |" in page
    assert (
        "| `broker-killed` | the others go on | 1 | 0 | 12 | 12.0 s | 12.0 s | 10 s | 0 |" in page
    )
    assert "- seed 3, breach: link-cut:ingress-rabbitmq" in page
    assert "  - O key k: overtaken" in page
    assert "  - and 2 more" in page
    assert "  - broker-killed recovered after 12 s, bound 10 s" in page


def test_a_page_takes_its_place_in_a_document_and_leaves_the_rest(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{BEGINS}\nold\n{ENDS}\nafter\n")

    write_page("new\n", document)

    assert document.read_text() == f"before\n{BEGINS}\nnew\n{ENDS}\nafter\n"


def test_seeds_are_told_as_ranges() -> None:
    assert seeds_text([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"
