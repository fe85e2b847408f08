// Answers pytest's questions about the shipped modules, a batch of calls a line.
import { createInterface } from "node:readline";
import * as rollout from "../../rollout/static/rollout/rollout.js";
import * as client from "../../idempotency/static/idempotency/client.js";

const functions = { ...rollout, ...client };
for await (const line of createInterface({ input: process.stdin })) {
  const { function: name, calls } = JSON.parse(line);
  const answers = await Promise.all(calls.map((values) => functions[name](...values)));
  process.stdout.write(JSON.stringify(answers) + "\n");
}
