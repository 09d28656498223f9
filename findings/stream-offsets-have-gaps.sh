#!/usr/bin/env bash
# RabbitMQ 3.10.8 streams, read over AMQP with aiormq 7.2.4.
#
# The offset of a message in a stream (x-stream-offset) looks like its number: 0, 1, 2 … within the
# first segment file. But each further segment takes an offset for itself, so with N messages the last
# offset is not N - 1. Whoever counts messages by offsets, or waits for "last + 1" to prove that
# nothing is missing, finds gaps where nothing was lost: all messages arrive, in order, once each.
#
# Seen: "430 of 430 in order, offsets from 0 with gaps".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages aiormq==7.2.4
broker 3.10
seen=$(python - <<'PY'
import asyncio, os
import aiormq

COUNT, BODY = 430, bytes(10_000)

async def main():
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    arguments = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 500_000}
    await channel.queue_declare("stream", durable=True, arguments=arguments)
    for number in range(COUNT):
        await channel.basic_publish(b"%d " % number + BODY, routing_key="stream")
    numbers, offsets, whole = [], [], asyncio.Event()

    async def take(message):
        numbers.append(int(message.body.split(b" ")[0]))
        offsets.append(message.header.properties.headers["x-stream-offset"])
        await channel.basic_ack(message.delivery_tag)
        if len(numbers) == COUNT:
            whole.set()

    await channel.basic_qos(prefetch_count=100)
    await channel.basic_consume("stream", take, arguments={"x-stream-offset": "first"})
    await asyncio.wait_for(whole.wait(), 60)
    await connection.close()
    order = "in order" if numbers == list(range(COUNT)) else "out of order"
    gaps = "with gaps" if offsets[-1] > COUNT - 1 else "without gaps"
    print(f"{len(numbers)} of {COUNT} {order}, offsets from {offsets[0]} {gaps}")

asyncio.run(main())
PY
)
verdict "RabbitMQ $version" "$seen" "430 of 430 in order, offsets from 0 with gaps"
