#!/usr/bin/env bash
# RabbitMQ 4.0.5 (Debian trixie, Erlang 27), aiormq 7.2.4, quorum queues.
#
# x-consumer-timeout says after how long an unacked delivery is taken back from its consumer. It is
# accepted without a word both when a queue is declared and when something is consumed. Given with the
# queue it holds (looked at once a minute: 5 s are 60 s); given with the consumer it is ignored, and
# the broker's 30 minutes hold. 3.10.8 accepts and ignores both; 4.3.6 honours both for quorum queues,
# to the second, and refuses both for classic ones. A wrong place is nowhere an error or a warning.
#
# Seen after at most 80 s: "queue: PRECONDITION_FAILED; consumer: nothing".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages aiormq==7.2.4
broker 4.0
seen=$(python - <<'PY'
import asyncio, os
import aiormq

LIMIT, WITHIN_S = {"x-consumer-timeout": 5_000}, 80

async def ending(name, *, of_queue, of_consumer):
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    arguments = {"x-queue-type": "quorum", **of_queue}
    await channel.queue_declare(name, durable=True, arguments=arguments)
    await channel.basic_publish(b"kept", routing_key=name)
    arrived, closed = asyncio.Event(), asyncio.Event()
    channel.closing.add_done_callback(lambda _: closed.set())

    async def keep(message):
        arrived.set()

    await channel.basic_consume(name, keep, arguments=of_consumer)
    await arrived.wait()
    try:
        await asyncio.wait_for(closed.wait(), WITHIN_S)
    except TimeoutError:
        return "nothing"
    finally:
        await connection.close()
    error = channel.closing.exception()
    return "PRECONDITION_FAILED" if "PRECONDITION_FAILED" in repr(error) else repr(error)

async def main():
    queue, consumer = await asyncio.gather(
        ending("by-queue", of_queue=LIMIT, of_consumer={}),
        ending("by-consumer", of_queue={}, of_consumer=LIMIT),
    )
    print(f"queue: {queue}; consumer: {consumer}")

asyncio.run(main())
PY
)
verdict "RabbitMQ $version" "$seen" "queue: PRECONDITION_FAILED; consumer: nothing"
