"""A healthy system keeps every promise, and the load leaves out nothing of what it can do."""

from pathlib import Path

from tests.conftest import Connection
from tests.integration.ingress.serving import open_doors
from tests.tools.chaos.attacked import INSTANCES, Run, acts_of, chaos_doors
from tools.chaos.journal import Act, Door, Journal, Outcome
from tools.chaos.load import Load, WalletPlan
from tools.stack import Stack


async def test_a_healthy_run_breaks_no_invariant(finished: Run) -> None:
    verdict = await finished.verdict()

    assert verdict.breaches == []
    assert verdict.late == 0
    assert verdict.crossed == 0
    assert verdict.counts["completed"] > 300
    assert verdict.counts["failed"] > 50
    assert verdict.counts["ordered"] > 100
    assert verdict.counts["full_batches"] > 3
    assert verdict.counts["events"] >= verdict.counts["completed"] + verdict.counts["failed"]


async def test_a_healthy_run_is_drained_and_leaves_nothing_open(finished: Run) -> None:
    assert finished.drained_s is not None
    assert finished.is_every_event_read
    assert finished.journal.open == {}


async def test_every_kind_of_act_was_answered(finished: Run) -> None:
    # A cancellation needs a scheduled transaction that is not due: a slow machine may have none.
    assert acts_of(finished.journal) >= set(Act) - {Act.CANCEL}


async def test_both_doors_took_single_requests_batches_repetitions_and_refusals(
    finished: Run,
) -> None:
    seen = {(one.door, one.is_batch, one.act) for one in finished.journal.read()}

    for door in Door:
        assert {act for at, is_batch, act in seen if at is door and not is_batch} >= {
            Act.TRANSFER,
            Act.DUPLICATE,
            Act.CONCURRENT_DUPLICATE,
            Act.OTHER_CONTENT,
            Act.INSUFFICIENT_FUNDS,
        }
        assert any(is_batch for at, is_batch, _ in seen if at is door)


async def test_poison_of_several_kinds_became_dead_letters(books: Connection) -> None:
    rows = await books.fetch("SELECT DISTINCT reason FROM dead_letters")

    assert len({row["reason"] for row in rows}) >= 4


async def test_a_probe_of_a_healthy_system_is_completed_at_once(finished: Run) -> None:
    first = min(one.sent_s for one in finished.journal.read() if one.act is Act.PROBE)

    seconds = await finished.meter.first_completed_after(first, bound_s=1e9)

    assert seconds is not None
    assert 0 < seconds < 10


async def test_nothing_is_known_of_a_moment_after_the_last_probe(finished: Run) -> None:
    last = max(one.answered_s for one in finished.journal.read())

    assert await finished.meter.first_completed_after(last, bound_s=0) is None


async def test_other_content_under_a_key_was_refused_over_http(finished: Run) -> None:
    answers = {
        (one.outcome, one.code)
        for one in finished.journal.read()
        if one.act is Act.OTHER_CONTENT and one.door is Door.HTTP
    }

    assert answers == {(Outcome.REFUSED, "422 idempotency_key_reused")}


async def test_very_many_wallets_are_made_in_seconds_and_are_funded(
    stack: Stack, template: str, tmp_path: Path
) -> None:
    cold = 3000

    async with open_doors(stack, template, tmp_path, instances=INSTANCES) as doors:
        with Journal(tmp_path) as journal:
            load = Load(
                chaos_doors(doors),
                seed=3,
                rate_per_s=1,
                clients=1,
                journal=journal,
                wallets=WalletPlan(hot=2, cold=cold),
            )
            wallets = await load.prepare()
        last = await doors.api.get(f"/v1/wallets/{wallets.cold[-1]}")

    assert len(set(wallets.cold)) == cold
    assert last.json["balance"] == "100.00"
    assert journal.counts == {(Act.OPENING, Outcome.ACCEPTED): len(wallets.funded())}
