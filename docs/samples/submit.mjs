// Submit a deposit and wait for its end: ACKLEDGER_URL, ACKLEDGER_API_KEY and the wallet's id.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const { ACKLEDGER_URL: url, ACKLEDGER_API_KEY: apiKey } = process.env;
const PASSING = new Set([429, 502, 503, 504]);

// The same key again, after whatever happened, is the same transaction.
async function submit(transaction, key = randomUUID()) {
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(`${url}/v1/transactions`, {
        method: "POST",
        headers: {
          Authorization: `Bearer ${apiKey}`,
          "Content-Type": "application/json",
          "Idempotency-Key": key,
          Prefer: "wait=10",
        },
        body: JSON.stringify(transaction),
        redirect: "error",
        signal: AbortSignal.timeout(60_000),
      });
    } catch (error) {
      if (attempt === 5) throw error;
    }
    if (response?.ok) return response.json();
    if (response && (!PASSING.has(response.status) || attempt === 5)) {
      const { code, detail } = await response.json();
      throw new Error(`${code}: ${detail}`);
    }
    const askedSeconds = Number(response?.headers.get("Retry-After")) || 0;
    await sleep(Math.max(askedSeconds * 1000, 2 ** attempt * 100 * (0.5 + Math.random() / 2)));
  }
}

const transaction = await submit({
  type: "deposit",
  destination_wallet_id: process.argv[2],
  amount: "10.00", // a text: a number would lose digits of large amounts
  currency: "EUR",
});
console.log(transaction.id, transaction.status);
