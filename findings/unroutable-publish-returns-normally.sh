#!/usr/bin/env bash
# aio-pika 10.2.1 (aiormq 7.2.4) with RabbitMQ 3.10.8, publisher confirms on, mandatory on: both are
# the library's defaults.
#
# A message that no queue takes is sent back by the broker. One expects the awaited publish to say so
# by an exception, since confirms and `mandatory` are on: that is what they are for. It returns
# normally, as for a message that arrived, and the returned value has to be looked at. Only a channel
# made with on_return_raises=True raises PublishError. With the default a wrong routing key or a
# forgotten binding loses every message in silence.
#
# Seen: "default: returned; on_return_raises: PublishError".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages aio-pika==10.2.1 aiormq==7.2.4
broker 3.10
seen=$(python - <<'PY'
import asyncio, os
import aio_pika

async def outcome(**wanted):
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=True, **wanted)
    try:
        await channel.default_exchange.publish(aio_pika.Message(b"money"), routing_key="nowhere")
    except Exception as error:
        return type(error).__name__
    else:
        return "returned"
    finally:
        await connection.close()

async def main():
    print(f"default: {await outcome()}; on_return_raises: {await outcome(on_return_raises=True)}")

asyncio.run(main())
PY
)
verdict "aio-pika 10.2.1" "$seen" "default: returned; on_return_raises: PublishError"
