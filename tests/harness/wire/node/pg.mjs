// A small unmodified program on node-postgres: a pool, a transaction, a prepared statement, a failing statement.
import pg from "pg";

const pool = new pg.Pool({ connectionString: process.argv[2], max: 2, application_name: "node" });
const client = await pool.connect();
await client.query("BEGIN");
const { rows } = await client.query("SELECT n FROM counters WHERE id = $1", ["a"]);
await client.query({ name: "set", text: "UPDATE counters SET n = $1 WHERE id = $2", values: [rows[0].n + 1, "a"] });
await client.query({ name: "set", text: "UPDATE counters SET n = $1 WHERE id = $2", values: [9, "b"] });
await client.query("COMMIT");
client.release();
let code = null;
try {
  await pool.query("INSERT INTO counters VALUES ('a', 1)");
} catch (error) {
  code = error.code;
}
const all = await pool.query("SELECT id, n FROM counters ORDER BY id");
await pool.end();
console.log(JSON.stringify({ code, rows: all.rows }));
