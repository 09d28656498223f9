"""One commit a task with Celery, SQLAlchemy and psycopg, as their documentation shows it.

Run, with DATABASE_URL, AMQP_URL and QUEUE in the environment:
`celery --app tools.bench.rivals.celery_sqlalchemy worker --concurrency 8 --prefetch-multiplier 8`
"""

import os
from uuid import UUID

from celery import Celery
from celery.signals import worker_process_init
from kombu import Queue
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

app = Celery("rival", broker=os.environ.get("AMQP_URL", ""))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue=os.environ.get("QUEUE", "rival"),
    task_queues=[
        Queue(
            os.environ.get("QUEUE", "rival"),
            durable=True,
            queue_arguments={"x-queue-type": "quorum"},
        )
    ],
    worker_detect_quorum_queues=True,
    broker_transport_options={"confirm_publish": True},
)
sessions: sessionmaker[Session] = sessionmaker()

# Parsed once: tuning that a fair rival is owed.
RECORD = text(
    "INSERT INTO rival_transactions (id, idempotency_key, source_wallet_id, "
    "destination_wallet_id, amount, status) VALUES (:id, :key, :source, :destination, :amount, "
    "'PENDING') ON CONFLICT (idempotency_key) DO NOTHING RETURNING id"
)
LOCK = text(
    "SELECT id, balance FROM rival_wallets WHERE id IN (:source, :destination) "
    "ORDER BY id FOR UPDATE"
)
MOVE = text(
    "UPDATE rival_wallets SET balance = balance + :change, version = version + 1 "
    "WHERE id = :id RETURNING balance, version"
)
ENTER = text("INSERT INTO rival_entries VALUES (:wallet, :sequence, :id, :change, :balance)")
FINISH = text(
    "UPDATE rival_transactions SET status = :status, completed_at = clock_timestamp() "
    "WHERE id = :id"
)


@worker_process_init.connect
def open_engine(**_: object) -> None:
    """Give each worker process an engine of its own, after the fork."""
    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    sessions.configure(bind=create_engine(url, pool_size=1))


@app.task(name="transfer")
def transfer(id: str, key: str, source: str, destination: str, amount: int) -> None:  # noqa: A002
    """Record, lock in id order, check, move, enter, finish, commit."""
    with sessions.begin() as session:
        _post(session, id, key, UUID(source), UUID(destination), amount)


def _post(  # noqa: PLR0917  # six plain values, in the order of the table
    session: Session, transaction_id: str, key: str, source: UUID, destination: UUID, amount: int
) -> None:
    wallets = {"source": source, "destination": destination}
    recorded = {"id": transaction_id, "key": key, "amount": amount, **wallets}
    if session.execute(RECORD, recorded).scalar() is None:
        return
    balances = {row.id: row.balance for row in session.execute(LOCK, wallets)}
    if balances[source] < amount:
        session.execute(FINISH, {"id": transaction_id, "status": "FAILED"})
        return
    for wallet_id, change in ((source, -amount), (destination, amount)):
        moved = session.execute(MOVE, {"id": wallet_id, "change": change}).one()
        entry = {
            "wallet": wallet_id,
            "sequence": moved.version,
            "id": transaction_id,
            "change": change,
            "balance": moved.balance,
        }
        session.execute(ENTER, entry)
    session.execute(FINISH, {"id": transaction_id, "status": "COMPLETED"})
