"""What a rule holds back: it waits for an operator, whoever else asks for it."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from contracts.record import Submission
from contracts.requests.terms import RequestedTerms
from ledger.words import ReviewState
from processor.poster import Poster
from reconciler.retry_queue import Expiry, Sweep
from runtime.amqp.publisher import Publisher
from runtime.postgres.audit import Trail
from runtime.postgres.pool import Pool
from runtime.screening.reviews import ReviewDecidedError, ReviewNotFoundError, Reviews
from tests.conftest import Connection
from tests.integration.processor.books import (
    add_wallets,
    balances_of,
    record,
    recorded,
    transfer_command,
)
from tests.integration.processor.ruling import add_rule, velocity
from verification.verify import verify

OPS = Trail("ops")


async def _status(database: Connection, transaction_id: UUID) -> tuple[str, str | None]:
    row = await database.fetchrow(
        "SELECT status::text, failure_code::text FROM transactions WHERE id = $1", transaction_id
    )
    assert row is not None
    return row["status"], row["failure_code"]


async def _open(reviews: Reviews) -> Sequence[UUID]:
    """Return the open reviews, oldest first."""
    page = await reviews.page(ReviewState.OPEN)
    return [UUID(one["id"]) for one in reversed(page.items)]


@pytest.fixture
async def reviews(pool: Pool, publisher: Publisher) -> Reviews:
    """What operators work with."""
    return Reviews(pool=pool, publisher=publisher, partitions=1)


async def _held(database: Connection, pool: Pool, *, minor: int = 500) -> tuple[UUID, list[UUID]]:
    """Have a rule hold one transfer back; return its id and its two wallets."""
    wallets = await add_wallets(database, 2, balance=1000)
    await add_rule(database, "large", "amount", {"USD": {"most": 100}}, action="review")
    [held] = await record(database, [transfer_command("large", wallets[0], wallets[1], minor)])
    await Poster(pool).post([held])
    return held, wallets


async def test_what_is_held_back_stays_pending_however_often_it_is_delivered(
    database: Connection, pool: Pool, reviews: Reviews
) -> None:
    held, wallets = await _held(database, pool)
    poster = Poster(pool)
    for _ in range(3):
        await poster.post([held])

    assert await _status(database, held) == ("PENDING", None)
    assert len(await _open(reviews)) == 1
    assert await balances_of(database, wallets) == [1000, 1000]
    # The rule is gone; what it held back is an operator's all the same.
    await database.execute("UPDATE rules SET is_enabled = false")
    await Poster(pool).post([held])
    assert await _status(database, held) == ("PENDING", None)


async def test_later_transactions_of_the_wallet_go_on(database: Connection, pool: Pool) -> None:
    held, wallets = await _held(database, pool)
    later = await record(database, [transfer_command("later", wallets[0], wallets[1], 10)])
    await Poster(pool).post([held, *later])

    assert await _status(database, later[0]) == ("COMPLETED", None)
    assert await balances_of(database, wallets) == [990, 1010]


async def test_an_approval_posts_without_that_rule(
    database: Connection, pool: Pool, reviews: Reviews
) -> None:
    held, wallets = await _held(database, pool)
    [review_id] = await _open(reviews)
    review = await reviews.approve(
        review_id, reason="known", trail=Trail("ops", "192.0.2.7", "r-1")
    )
    await Poster(pool).post([held])

    assert (review["state"], review["decided_by"], review["reason"]) == ("APPROVED", "ops", "known")
    assert await _status(database, held) == ("COMPLETED", None)
    assert await balances_of(database, wallets) == [500, 1500]
    trail = await database.fetchrow(
        "SELECT actor, action, subject, address, request_id FROM audit_log"
    )
    assert trail is not None
    assert trail[:3] == ("ops", "review.approved", f"review:{review_id}")
    # From where, and by which request.
    assert trail[3:] == ("192.0.2.7", "r-1")
    assert await database.fetchval("SELECT transaction_id FROM stale_transactions") == held


async def test_what_is_approved_still_meets_the_ledger_and_the_other_rules(
    database: Connection, pool: Pool, reviews: Reviews
) -> None:
    held, wallets = await _held(database, pool)
    await add_rule(database, "none", "velocity", velocity("wallet", count_max=0), action="review")
    [first] = await _open(reviews)
    await reviews.approve(first, reason="known", trail=OPS)
    await Poster(pool).post([held])
    [second] = await _open(reviews)
    await database.execute("UPDATE wallets SET balance = 1 WHERE id = $1", wallets[0])
    await reviews.approve(second, reason="known", trail=OPS)
    await Poster(pool).post([held])

    assert await _status(database, held) == ("FAILED", "insufficient_funds")


async def test_a_refusal_ends_it_with_its_event(
    database: Connection, pool: Pool, reviews: Reviews
) -> None:
    held, _ = await _held(database, pool)
    [review_id] = await _open(reviews)
    review = await reviews.refuse(review_id, reason="unknown", trail=OPS)

    assert (review["state"], review["transaction_status"]) == ("REFUSED", "FAILED")
    assert await _status(database, held) == ("FAILED", "rule_refused")
    assert await database.fetchval(
        "SELECT transaction_ids FROM outbox WHERE event_type = 'failed'"
    ) == [held]
    assert await database.fetchval("SELECT transaction_id FROM late_endings") == held


async def test_a_review_is_decided_once(database: Connection, pool: Pool, reviews: Reviews) -> None:
    await _held(database, pool)
    [review_id] = await _open(reviews)
    outcomes = await asyncio.gather(
        reviews.approve(review_id, reason="one", trail=OPS),
        reviews.refuse(review_id, reason="other", trail=OPS),
        return_exceptions=True,
    )

    assert sum(isinstance(one, ReviewDecidedError) for one in outcomes) == 1
    assert await database.fetchval("SELECT count(*) FROM audit_log") == 1
    with pytest.raises(ReviewNotFoundError):
        await reviews.approve(uuid4(), reason="none", trail=OPS)


async def test_neither_the_sweep_nor_the_expiry_nor_verify_minds_what_is_held_back(
    database: Connection, pool: Pool, reviews: Reviews
) -> None:
    held, _ = await _held(database, pool)
    await Sweep(pool).run_once(older_than_s=0)
    assert await database.fetchval("SELECT count(*) FROM stale_transactions") == 0
    assert await Expiry(pool, after_s=0.000001).expire([held]) == 0
    assert "pending_age" not in await _findings(database)
    [review_id] = await _open(reviews)
    await reviews.approve(review_id, reason="known", trail=OPS)

    assert "pending_age" in await _findings(database)
    assert await Expiry(pool, after_s=3600).expire([held]) == 0


async def _findings(database: Connection) -> set[str]:
    report = await verify(database, pending_max_s=0)
    return {one.check.value for one in report.findings}


async def test_an_atomic_batch_waits_as_a_whole_and_ends_as_a_whole(
    database: Connection, pool: Pool, reviews: Reviews
) -> None:
    wallets = await add_wallets(database, 2, balance=1000)
    await add_rule(database, "large", "amount", {"USD": {"most": 100}}, action="review")
    batches = [await _atomic(pool, wallets, [10, 500, 20], key) for key in ("a", "b")]
    assert [await _status(database, one) for batch in batches for one in batch] == [
        ("PENDING", None)
    ] * 6
    first, second = await _open(reviews)
    await reviews.refuse(first, reason="unknown", trail=OPS)
    await reviews.approve(second, reason="known", trail=OPS)
    await Poster(pool).post(batches[1][:1])

    assert [(await _status(database, one))[1] for one in batches[0]] == [
        "batch_failed", "rule_refused", "batch_failed",
    ]  # fmt: skip
    assert [await _status(database, one) for one in batches[1]] == [("COMPLETED", None)] * 3
    assert await balances_of(database, wallets) == [470, 1530]


async def _atomic(
    pool: Pool, wallets: Sequence[UUID], amounts: Sequence[int], key: str
) -> list[UUID]:
    """Post an atomic batch of transfers; return the members' ids."""
    terms = RequestedTerms(batch_id=uuid4())
    members = [
        Submission(
            "shop", transfer_command(f"{key}{n}", wallets[0], wallets[1], one)._replace(terms=terms)
        )
        for n, one in enumerate(amounts)
    ]
    result = await Poster(pool).post(members)
    return [one.transaction_id for one in recorded(result.outcomes)]
