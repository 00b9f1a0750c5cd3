// Payments with numbers such as PAY20260006, on Express and mongoose.
// NUMBERING=count is the bug: the next number is one more than the payments that there are.
// NUMBERING=counter is the fix: a counter document, increased in the transaction that stores the payment.
import express from "express";
import mongoose from "mongoose";

const payments = new mongoose.Schema({
  user: { type: String, required: true },
  sequence: { type: Number, required: true },
  paymentNumber: { type: String, required: true },
  cents: { type: Number, required: true },
  reference: { type: String, required: true },
}, { timestamps: true });
const Payment = mongoose.model("Payment", payments);
const Counter = mongoose.model("Counter", new mongoose.Schema({ _id: String, value: Number }, { versionKey: false }));

function printed(sequence) {
  return `PAY2026${String(sequence).padStart(4, "0")}`;
}

async function createByCounting({ user, cents, reference }) {
  const sequence = (await Payment.countDocuments({ user })) + 1;
  return Payment.create({ user, sequence, paymentNumber: printed(sequence), cents, reference });
}

async function createByCounter({ user, cents, reference }) {
  return mongoose.connection.transaction(async (session) => {
    const counter = await Counter.findOneAndUpdate(
      { _id: user }, { $inc: { value: 1 } }, { new: true, upsert: true, session });
    const sequence = counter.value;
    const [payment] = await Payment.create(
      [{ user, sequence, paymentNumber: printed(sequence), cents, reference }], { session });
    return payment;
  });
}

const create = process.env.NUMBERING === "counter" ? createByCounter : createByCounting;
const app = express();
app.use(express.json());

app.get("/health", (request, response) => response.json({ ok: mongoose.connection.readyState === 1 }));

app.post("/users/:user/payments", async (request, response) => {
  try {
    const payment = await create({ user: request.params.user, ...request.body });
    response.status(201).json({ payment: { sequence: payment.sequence, number: payment.paymentNumber } });
  } catch (error) {
    response.status(500).json({ error: error.message });
  }
});

await mongoose.connect(process.env.DATABASE_URL);
await Payment.createCollection();
await Counter.createCollection();
app.listen(Number(process.env.PORT), "127.0.0.1");
