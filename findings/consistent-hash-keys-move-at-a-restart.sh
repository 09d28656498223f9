#!/usr/bin/env bash
# RabbitMQ 3.10.8 (Debian bookworm, Erlang 25), exchange type x-consistent-hash with four queues.
#
# What consistent hashing is for is that a key keeps its queue as long as the queues stay. Here it
# does so only until the broker restarts: the ring is kept in memory alone and is built anew from
# bindings in an arbitrary order. Though queues, bindings and weights are the same before and after a
# clean restart, most keys reach another queue (750 to 1,000 of 1,000 in repeated trials; a restart
# may also happen to keep them all). 4.0.5 does the same, 4.3.6 does not. So nothing that needs one
# key's messages in one queue, like the order of an account, survives a restart up to 4.0.
#
# Seen within five restarts: "keys moved".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages aiormq==7.2.4
broker 3.10
queues_of_keys() {
  python - <<'PY'
import asyncio, os
import aiormq
from pamqp.commands import Basic

async def main():
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    await channel.exchange_declare("ring", exchange_type="x-consistent-hash", durable=True)
    names = [f"queue-{number}" for number in range(4)]
    for name in names:
        await channel.queue_declare(name, durable=True)
        await channel.queue_bind(name, "ring", "1")
    for key in range(1000):
        await channel.basic_publish(str(key).encode(), exchange="ring", routing_key=f"key-{key}")
    for name in names:
        while not isinstance((got := await channel.basic_get(name, no_ack=True)).delivery, Basic.GetEmpty):
            print(got.body.decode(), name)
    await connection.close()

asyncio.run(main())
PY
}
queues_of_keys | sort >"$ground/before"
[ "$(wc -l <"$ground/before")" = 1000 ] || { echo "not all of 1,000 messages were routed" >&2; exit 2; }
seen="keys stayed"
for attempt in 1 2 3 4 5; do
  restart
  queues_of_keys | sort >"$ground/after"
  moved=$(comm -13 "$ground/before" "$ground/after" | wc -l)
  echo "restart $attempt: $moved of 1,000 keys reach another queue than before the first"
  if [ "$moved" -gt 0 ]; then
    seen="keys moved"
    break
  fi
done
verdict "RabbitMQ $version" "$seen" "keys moved"
