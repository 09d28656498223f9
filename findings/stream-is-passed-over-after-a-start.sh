#!/usr/bin/env bash
# RabbitMQ 3.10.8, a durable stream and a durable quorum queue bound to one exchange, aiormq 7.2.4.
#
# A broker that is started again serves clients before its streams are up, for some hundred
# milliseconds. A message that is published then is routed to the quorum queue alone, and Basic.Ack
# says that it arrived: it is not in the stream, and never will be. Whoever believes a confirm to mean
# "in every queue that is bound" loses messages of the stream at each restart of the broker. A passive
# declaration tells: NOT_FOUND, "home node ... is down or inaccessible", until the stream is up.
#
# Seen: "in the queue: all that was confirmed; in the stream: some are missing".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages aiormq==7.2.4
broker 3.10
cat >"$ground/publisher.py" <<'PY'
import asyncio, os, pathlib, sys
import aiormq

GROUND = pathlib.Path(sys.argv[1])

async def channel_of():
    while True:
        try:
            connection = await asyncio.wait_for(aiormq.connect(os.environ["AMQP_URL"]), 5)
            return await asyncio.wait_for(connection.channel(publisher_confirms=True), 5)
        except Exception:
            await asyncio.sleep(0.01)

async def main():
    channel, number = await channel_of(), 0
    with (GROUND / "confirmed").open("w", buffering=1) as confirmed:
        while not (GROUND / "stop").exists():
            publishing = channel.basic_publish(b"%d" % number, exchange="both", routing_key="any")
            try:
                await asyncio.wait_for(publishing, 10)
                confirmed.write(f"{number}\n")
                number += 1
            except Exception:
                channel = await channel_of()

asyncio.run(main())
PY
python - <<'PY'
import asyncio, os
import aiormq

async def main():
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    await channel.exchange_declare("both", exchange_type="fanout", durable=True)
    for kind in ("quorum", "stream"):
        await channel.queue_declare(kind, durable=True, arguments={"x-queue-type": kind})
        await channel.queue_bind(kind, "both")
    await connection.close()

asyncio.run(main())
PY
python "$ground/publisher.py" "$ground" 2>"$ground/publisher.log" &
publisher=$!
started=("$publisher" "${started[@]}")
for _ in 1 2 3; do
  sleep 3
  restart
done
sleep 3
touch "$ground/stop"
wait "$publisher"
seen=$(python - "$ground" <<'PY'
import asyncio, os, pathlib, sys
import aiormq

confirmed = set(map(int, (pathlib.Path(sys.argv[1]) / "confirmed").read_text().split()))

async def main():
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    found, news = {"quorum": set(), "stream": set()}, asyncio.Event()

    def taker(kind):
        async def take(message):
            found[kind].add(int(message.body))
            await channel.basic_ack(message.delivery_tag)
            news.set()
        return take

    await channel.basic_qos(prefetch_count=500)
    await channel.basic_consume("quorum", taker("quorum"))
    await channel.basic_consume("stream", taker("stream"), arguments={"x-stream-offset": "first"})
    try:
        while True:
            await asyncio.wait_for(news.wait(), 5)
            news.clear()
    except asyncio.TimeoutError:
        pass
    await connection.close()
    queue = "all that was confirmed" if confirmed <= found["quorum"] else "not all"
    stream = "all" if confirmed <= found["stream"] else "some are missing"
    print(f"in the queue: {queue}; in the stream: {stream}")

asyncio.run(main())
PY
)
verdict "RabbitMQ $version" "$seen" "in the queue: all that was confirmed; in the stream: some are missing"
