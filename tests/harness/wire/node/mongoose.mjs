// A small unmodified program on mongoose: models, a transaction, an atomic update.
import mongoose from "mongoose";

await mongoose.connect(process.argv[2], { appName: "node" });
const Counter = mongoose.model("Counter", new mongoose.Schema({ _id: String, n: Number }, { versionKey: false }));
await Counter.create({ _id: "a", n: 0 });
await mongoose.connection.transaction(async (session) => {
  const counter = await Counter.findById("a").session(session);
  counter.n += 1;
  await counter.save({ session });
});
await Counter.findOneAndUpdate({ _id: "a" }, { $inc: { n: 1 } });
const rows = await Counter.find().lean();
await mongoose.disconnect();
console.log(JSON.stringify({ rows }));
