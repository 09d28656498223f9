#!/usr/bin/env bash
# RabbitMQ 4.3.6 (Debian 4.3.6-1, Erlang 29), aiormq 7.2.4, a quorum queue with x-delivery-limit 3.
#
# A delivery limit bounds how often a message comes again. Both ways to give one back look alike:
# basic.nack and basic.reject, each with requeue. In 4.3 they are not: a rejected message is dropped
# (or dead-lettered) after 4 deliveries, a nacked one comes again without end. Up to 4.0.5 both
# counted (seen on 3.10.8 and 4.0.5). So a poison message under a consumer that nacks goes round for
# ever, limit or not.
#
# Seen: "rejected 4 times, then gone; nacked 40 times, still there".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages aiormq==7.2.4
broker 4.3
seen=$(python - <<'PY'
import asyncio, os
import aiormq

ENOUGH = 40

async def deliveries(way):
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    limits = {"x-queue-type": "quorum", "x-delivery-limit": 3}
    await channel.queue_declare(way, durable=True, arguments=limits)
    await channel.basic_publish(b"poison", routing_key=way)
    count, moved = 0, asyncio.Event()

    async def give_back(message):
        nonlocal count
        count += 1
        moved.set()
        if count < ENOUGH:
            give = channel.basic_nack if way == "nack" else channel.basic_reject
            await give(message.delivery_tag, requeue=True)

    await channel.basic_consume(way, give_back)
    try:
        while count < ENOUGH:
            moved.clear()
            await asyncio.wait_for(moved.wait(), 5)
    except TimeoutError:
        pass
    await connection.close()
    return count

async def main():
    rejected, nacked = await deliveries("reject"), await deliveries("nack")
    tell = lambda count: "still there" if count >= ENOUGH else "then gone"
    print(f"rejected {rejected} times, {tell(rejected)}; nacked {nacked} times, {tell(nacked)}")

asyncio.run(main())
PY
)
verdict "RabbitMQ $version" "$seen" "rejected 4 times, then gone; nacked 40 times, still there"
