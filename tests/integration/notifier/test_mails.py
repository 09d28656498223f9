"""Mails reach a real SMTP server at least once, however it behaves, and steer nothing there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from notifier.mails import ATTEMPTS_MAX, LEASE_S, TAKEN_MAX, MailDelivery, retry_delay_s
from notifier.smtp import FailureKind, MailError, Security, SmtpSender, SmtpServer
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from tests.integration.notifier.postbox import Postbox, certified, free_port, password_checker
from tests.integration.reconciler.serving import running
from tests.support import eventually

pytestmark = pytest.mark.long

SENDER = "no-reply@ledger.example"
_DUE = "UPDATE mail_outbox SET next_attempt_at = clock_timestamp() WHERE sent_at IS NULL"


MakeDelivery = Callable[..., MailDelivery]


@pytest.fixture
async def deliver(pool: Pool) -> AsyncIterator[MakeDelivery]:
    """Make deliveries to a server, or to a box without TLS; connections are closed at the end."""
    senders: list[SmtpSender] = []

    def make(
        box: Postbox | None = None, *, server: SmtpServer | None = None, **bounds: float
    ) -> MailDelivery:
        usual = SmtpServer("127.0.0.1", box.port if box else free_port(), Security.NONE)
        senders.append(SmtpSender(server or usual, sender=SENDER, **bounds))
        return MailDelivery(pool, senders[-1])

    yield make
    for sender in senders:
        await sender.close()


async def _write(
    database: Connection, *, to: str = "ada@example.com", subject: str = "Hello", text: str = "Hi\n"
) -> UUID:
    mail_id = uuid4()
    await database.execute(
        "INSERT INTO mail_outbox (id, to_address, subject, text) VALUES ($1, $2, $3, $4)",
        mail_id,
        to,
        subject,
        text,
    )
    return mail_id


async def _row(database: Connection, mail_id: UUID) -> dict[str, object]:
    row = await database.fetchrow(
        "SELECT *, extract(epoch FROM next_attempt_at - clock_timestamp())::float8 AS due_in_s"
        " FROM mail_outbox WHERE id = $1",
        mail_id,
    )
    assert row is not None
    return dict(row)


async def test_a_mail_is_sent_once_and_says_who_it_is(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    mail_id = await _write(database, subject="Grüße", text="Ein Tökèn: ack_confirm_x\n.\nEnde\n")
    delivery = deliver(postbox)
    sent = [await delivery.run_once() for _ in range(2)]

    [mail], [envelope] = postbox.mails, postbox.envelopes
    assert sent == [1, 0]
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["ada@example.com"])
    assert (mail["From"], mail["To"], mail["Subject"]) == (SENDER, "ada@example.com", "Grüße")
    assert mail["Message-ID"] == f"<{mail_id}@ledger.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == "Ein Tökèn: ack_confirm_x\n.\nEnde\n"
    assert (await _row(database, mail_id))["sent_at"] is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "Hello\r\nBcc: eve@example.com"},
        {"subject": "Hello\nX-Spam: no"},
        {"subject": "x" * 201},
        {"to": "ada@example.com\r\nRCPT TO:<eve@example.com>"},
        {"to": "ada@example.com, eve@example.com"},
        {"to": "<ada@example.com> SIZE=1"},
        {"to": "no address"},
    ],
)
async def test_what_a_mail_says_becomes_no_header_and_no_command(
    deliver: MakeDelivery, database: Connection, postbox: Postbox, fields: dict[str, str]
) -> None:
    bad = await _write(database, **fields)
    await _write(database, subject="its neighbour")
    await deliver(postbox).run_once()

    assert [mail["Subject"] for mail in postbox.mails] == ["its neighbour"]
    assert (await _row(database, bad))["given_up_at"] is not None


async def test_a_text_that_looks_like_smtp_stays_a_text(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    text = "hello\r\n.\r\nMAIL FROM:<eve@example.com>\r\nRCPT TO:<eve@example.com>\r\nDATA\r\n"
    await _write(database, text=text)
    await deliver(postbox).run_once()

    [mail] = postbox.mails
    assert mail.get_content() == text


async def test_a_mail_that_is_refused_for_now_is_tried_again_later(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    mail_id = await _write(database)
    postbox.answers.append("451 come again")
    delivery = deliver(postbox)
    sent = [await delivery.run_once() for _ in range(2)]
    put_off = await _row(database, mail_id)
    await database.execute(_DUE)
    sent.append(await delivery.run_once())

    assert sent == [0, 0, 1]
    assert put_off["attempts"] == 1
    assert 20 < float(str(put_off["due_in_s"])) < 40
    assert len(postbox.mails) == 1


@pytest.mark.parametrize("answer", ["550 no such user", "553 bad mailbox"])
async def test_a_recipient_that_is_refused_for_good_is_not_tried_again(
    deliver: MakeDelivery, database: Connection, postbox: Postbox, answer: str
) -> None:
    postbox.refused["nobody@example.com"] = answer
    refused = await _write(database, to="nobody@example.com")
    await _write(database, to="ada@example.com")
    await deliver(postbox).run_once()
    await database.execute(
        "UPDATE mail_outbox SET next_attempt_at = clock_timestamp()"
        " WHERE sent_at IS NULL AND given_up_at IS NULL"
    )

    assert await deliver(postbox).run_once() == 0
    assert (await _row(database, refused))["given_up_at"] is not None
    assert [one.rcpt_tos for one in postbox.envelopes] == [["ada@example.com"]]


async def test_a_mail_is_given_up_after_so_many_attempts(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    mail_id = await _write(database)
    await database.execute("UPDATE mail_outbox SET attempts = $1", ATTEMPTS_MAX - 1)
    postbox.answers.append("451 come again")
    await deliver(postbox).run_once()
    await database.execute("ANALYZE mail_outbox")

    assert (await _row(database, mail_id))["given_up_at"] is not None
    assert await deliver(postbox).run_once() == 0


async def test_without_a_server_one_mail_is_tried_and_the_others_wait_for_free(
    deliver: MakeDelivery, database: Connection
) -> None:
    written = [await _write(database) for _ in range(3)]
    with pytest.raises(MailError) as raised:
        await deliver().run_once()

    attempts = [int(str((await _row(database, one))["attempts"])) for one in written]
    assert raised.value.kind is FailureKind.UNREACHABLE
    assert sorted(attempts) == [0, 0, 1]


async def test_a_server_that_hangs_is_given_up_and_asked_again(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    mail_id = await _write(database)
    postbox.hang()
    delivery = deliver(postbox, step_timeout_s=0.3, mail_timeout_s=1.0)
    async with asyncio.timeout(5):
        with pytest.raises(MailError):
            await delivery.run_once()
    hung = await _row(database, mail_id)
    postbox.go_on()
    await database.execute(_DUE)

    assert hung["sent_at"] is None
    assert await delivery.run_once() == 1


async def test_whoever_is_killed_with_a_mail_in_hand_leaves_it_to_others(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    mail_id = await _write(database)
    await database.fetch(load_queries("notifier")["claim_mails"], TAKEN_MAX, LEASE_S)
    delivery = deliver(postbox)
    while_it_is_taken = await delivery.run_once()
    taken = await _row(database, mail_id)
    await database.execute(_DUE)

    assert while_it_is_taken == 0
    assert LEASE_S - 10 < float(str(taken["due_in_s"])) <= LEASE_S
    assert await delivery.run_once() == 1


async def test_several_notifiers_share_the_work_and_send_no_mail_twice(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    written = {str(await _write(database)) for _ in range(60)}
    deliveries = [deliver(postbox) for _ in range(3)]
    async with running(deliveries[0]), running(deliveries[1]), running(deliveries[2]):

        async def all_sent() -> bool:
            sql = "SELECT count(*) FROM mail_outbox WHERE sent_at IS NULL"
            return bool(await database.fetchval(sql) == 0)

        await eventually(all_sent, what="every mail is sent")

    sent = [mail["Message-ID"].removeprefix("<").partition("@")[0] for mail in postbox.mails]
    assert sorted(sent) == sorted(written)


async def test_starttls_is_required_and_the_certificate_verified(
    pool: Pool, database: Connection, tmp_path: Path
) -> None:
    shown, believed = certified(tmp_path, host="127.0.0.1")
    settings = {
        "tls_context": shown,
        "require_starttls": True,
        "authenticator": password_checker("ledger", "a secret"),
        "auth_required": True,
    }
    async with Postbox(**settings) as box:
        await _write(database)

        async def sent_by(security: Security, password: str, *, trusted: bool) -> object:
            server = SmtpServer(
                "127.0.0.1",
                box.port,
                security,
                user="ledger",
                password=password,
                tls=believed if trusted else None,
            )
            sender = SmtpSender(server, sender=SENDER)
            await database.execute(_DUE)
            try:
                return await MailDelivery(pool, sender).run_once()
            except MailError as error:
                return error.kind
            finally:
                await sender.close()

        answers = [
            await sent_by(Security.STARTTLS, "a secret", trusted=False),
            await sent_by(Security.STARTTLS, "not the secret", trusted=True),
            await sent_by(Security.NONE, "a secret", trusted=True),
            await sent_by(Security.STARTTLS, "a secret", trusted=True),
        ]

    assert answers == [FailureKind.UNREACHABLE] * 3 + [1]
    assert len(box.mails) == 1


async def test_a_server_without_starttls_gets_neither_password_nor_mail(
    deliver: MakeDelivery, database: Connection, postbox: Postbox
) -> None:
    mail_id = await _write(database)
    server = SmtpServer("127.0.0.1", postbox.port, Security.STARTTLS, user="u", password="secret")
    with pytest.raises(MailError):
        await deliver(server=server).run_once()

    assert postbox.mails == []
    assert (await _row(database, mail_id))["sent_at"] is None


async def test_old_mails_are_deleted_and_those_to_be_sent_are_not(
    deliver: MakeDelivery, database: Connection
) -> None:
    sent, given_up, waiting, new = [await _write(database) for _ in range(4)]
    await database.execute("UPDATE mail_outbox SET sent_at = clock_timestamp() WHERE id = $1", sent)
    await database.execute("UPDATE mail_outbox SET sent_at = clock_timestamp() WHERE id = $1", new)
    await database.execute(
        "UPDATE mail_outbox SET given_up_at = clock_timestamp(), next_attempt_at = 'infinity'"
        " WHERE id = $1",
        given_up,
    )
    await database.execute(
        "UPDATE mail_outbox SET created_at = created_at - interval '8 days' WHERE id <> $1", new
    )
    async with running(deliver()):

        async def left() -> bool:
            ids = await database.fetch("SELECT id FROM mail_outbox")
            return {row["id"] for row in ids} == {waiting, new}

        await eventually(left, what="old mails are deleted")


def test_pauses_grow_to_a_bound_and_a_mail_is_tried_for_about_a_day() -> None:
    pauses = [retry_delay_s(attempts) for attempts in range(1, ATTEMPTS_MAX)]

    assert pauses[:3] == [30.0, 60.0, 120.0]
    assert pauses == sorted(pauses)
    assert 18 * 3600 < sum(pauses) < 30 * 3600


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://127.0.0.1:1025", SmtpServer("127.0.0.1", 1025, Security.NONE)),
        ("smtp://localhost", SmtpServer("localhost", 25, Security.NONE)),
        ("smtp://mail.example", SmtpServer("mail.example", 587, Security.STARTTLS)),
        (
            "smtp://u%40x:p%2Fw@mail.example:2525",
            SmtpServer("mail.example", 2525, Security.STARTTLS, user="u@x", password="p/w"),
        ),
        ("smtps://mail.example", SmtpServer("mail.example", 465, Security.TLS)),
    ],
)
def test_the_url_says_where_mails_go_and_how(url: str, server: SmtpServer) -> None:
    assert SmtpServer.of_url(url) == server
