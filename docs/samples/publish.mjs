// Publish a deposit with amqplib: ACKLEDGER_UPSTREAM_AMQP_URL, the wallet's id and a key.
import amqp from "amqplib";

const url = new URL(process.env.ACKLEDGER_UPSTREAM_AMQP_URL);
const [walletId, key] = process.argv.slice(2);

const connection = await amqp.connect(url.href);
const channel = await connection.createConfirmChannel();
let returned = false;
channel.on("return", () => {
  returned = true;
});
const body = {
  version: 1,
  idempotency_key: key,
  type: "deposit",
  destination_wallet_id: walletId,
  amount: "10.00",
  currency: "EUR",
};
// The wallet that is credited (of all but deposits: debited) keeps its order.
channel.publish("ackledger.transactions", walletId, Buffer.from(JSON.stringify(body)), {
  contentType: "application/json",
  persistent: true,
  mandatory: true,
  type: "transaction.requested.v1",
  userId: decodeURIComponent(url.username),
});
await channel.waitForConfirms();
await connection.close();
// The broker returns what no queue takes before it confirms it.
if (returned) throw new Error("no queue is bound to ackledger.transactions");
console.log("confirmed", key);
