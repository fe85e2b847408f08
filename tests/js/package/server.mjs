// An application on Node.js that uses the package: it loads every module, and creates a fund, once.
import { clearEmergency, emergencyActive, showBanner } from "fundapi/emergency";
import { ConflictError, createClient } from "fundapi/idempotency";
import { createRollouts } from "fundapi/rollout";
import { createTelemetry, ticketSource } from "fundapi/telemetry";

const [, , server, token] = process.argv;

// Rendering on a server: no page, no banner, and nothing to clear.
showBanner();
clearEmergency();
const emergency = emergencyActive();

const rollouts = createRollouts({ url: `${server}/api/rollouts` });
const telemetry = createTelemetry({
  endpoint: `${server}/api/telemetry`,
  flag: "USE_FUND_STORE",
  variant: () => rollouts.variant("USE_FUND_STORE"),
  ticket: ticketSource({ url: `${server}/api/telemetry/ticket`, token: () => token }),
});
await rollouts.ready;
telemetry.record("migration_succeeded");
await telemetry.flush();
telemetry.stop();
rollouts.stop();
const timers = process.getActiveResourcesInfo().filter((name) => name === "Timeout");

const funds = createClient({ environment: "test", operation: "fund-create", token, backoff: 1 });
const options = { key: funds.draftKey("fund-setup") };
const fund = { name: "Harbor Growth I", size: 250_000_000 };
const { status, attempts, body } = await funds.post(`${server}/api/funds`, fund, options);
const conflict = await funds.post(`${server}/api/funds`, { ...fund, size: 1 }, options).catch((error) => error);

const answer = {
  status,
  attempts,
  id: body.id,
  conflict: conflict instanceof ConflictError,
  emergency,
  timers,
  feature: rollouts.config("USE_FUND_STORE")?.feature,
  client: telemetry.clientId,
};
console.log(JSON.stringify(answer));
