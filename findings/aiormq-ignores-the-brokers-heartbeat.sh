#!/usr/bin/env bash
# aiormq 7.2.4 (and so aio-pika 10.2.1) with RabbitMQ 3.10.8 that has `heartbeat = 10`.
#
# In AMQP the broker proposes a heartbeat in connection.tune and the client may lower it; other
# clients take the broker's. aiormq answers with its own 60 s whatever was proposed, and the broker
# obeys. So an operator who lowers `heartbeat` in rabbitmq.conf, to notice dead peers sooner, changes
# nothing for these clients: a frozen one is noticed after two to three minutes instead of 20 to 30 s.
# Only `?heartbeat=10` in each client's own URL counts.
#
# Seen, as the broker lists what was agreed, without and with it in the URL: "60 10".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages aiormq==7.2.4
broker 3.10 "heartbeat = 10"
connections() { rabbitmqctl -q --no-table-headers list_connections timeout; }
seen=$(
  for url in "$AMQP_URL" "$AMQP_URL?heartbeat=10"; do
    coproc client {
      URL=$url python -c '
import asyncio, os, aiormq
async def main():
    connection = await aiormq.connect(os.environ["URL"])
    print("open", flush=True)
    await asyncio.to_thread(input)
    await connection.close()
asyncio.run(main())'
    }
    exec {to}>&"${client[1]}" {from}<&"${client[0]}"
    read -r _ <&"$from"
    connections
    echo >&"$to"
    wait "$client_PID" || true
    exec {to}>&- {from}<&-
  done | tr '\n' ' '
)
verdict "aiormq 7.2.4, RabbitMQ $version" "$seen" "60 10 "
