// Orders that are paid in installments, with route handlers in the manner of Next and node-postgres below them.
// LOCKING=none is the bug: the balance is read, checked and written back, and another payment may come in between.
// LOCKING=row is the fix: the order's row is locked before it is read.
import http from "node:http";
import pg from "pg";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
const lock = process.env.LOCKING === "row" ? "FOR UPDATE" : "";

await pool.query(`
  CREATE TABLE IF NOT EXISTS "Order" (id text PRIMARY KEY, "totalAmount" bigint NOT NULL, "advancePaid" bigint NOT NULL,
    discount bigint NOT NULL DEFAULT 0, "balanceAmount" bigint NOT NULL, status text NOT NULL DEFAULT 'open');
  CREATE TABLE IF NOT EXISTS "PaymentInstallment" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "orderId" text NOT NULL REFERENCES "Order", "installmentNumber" int NOT NULL, "paidAmount" bigint NOT NULL,
    reference text NOT NULL UNIQUE)`);

async function inTransaction(work) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const answer = await work(client);
    await client.query(answer.status < 400 ? "COMMIT" : "ROLLBACK");
    return answer;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

const routes = {
  "GET /health": async () => ({ status: 200, body: { ok: true } }),

  "POST /orders": async ({ id, total, advance }) => {
    await pool.query(
      `INSERT INTO "Order" (id, "totalAmount", "advancePaid", "balanceAmount") VALUES ($1, $2, $3, $4)`,
      [id, total, advance, total - advance]);
    return { status: 201, body: { id } };
  },

  "POST /installments": async ({ order, amount, reference }) => inTransaction(async (client) => {
    const found = await client.query(`SELECT "balanceAmount" AS balance FROM "Order" WHERE id = $1 ${lock}`, [order]);
    const balance = Number(found.rows[0].balance);
    if (amount > balance) return { status: 409, body: { error: `only ${balance} is due` } };
    const paid = await client.query(`SELECT count(*) AS n FROM "PaymentInstallment" WHERE "orderId" = $1`, [order]);
    const number = Number(paid.rows[0].n) + 1;
    await client.query(
      `INSERT INTO "PaymentInstallment" ("orderId", "installmentNumber", "paidAmount", reference) VALUES ($1, $2, $3, $4)`,
      [order, number, amount, reference]);
    await client.query(`UPDATE "Order" SET "balanceAmount" = $1 WHERE id = $2`, [balance - amount, order]);
    return { status: 201, body: { installment: number, balance: balance - amount } };
  }),
};

http.createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  const route = routes[`${request.method} ${request.url}`];
  let answer = { status: 404, body: { error: "no such route" } };
  try {
    if (route) answer = await route(text ? JSON.parse(text) : {});
  } catch (error) {
    answer = { status: 500, body: { error: error.message } };
  }
  response.writeHead(answer.status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(answer.body));
}).listen(Number(process.env.PORT), "127.0.0.1");
