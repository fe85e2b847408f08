// What an editor knows of the package. A line that must be an error has `@ts-expect-error` above it.
import { clearEmergency, emergencyActive } from "fundapi/emergency";
import {
  ConflictError,
  ExpiredKeyError,
  ForeignAnswerError,
  OfflineError,
  ProblemError,
  TimeoutError,
  UnansweredError,
  createClient,
} from "fundapi/idempotency";
import type { Client, ClientOptions, Result } from "fundapi/idempotency";
import { createRollouts, readSwitches, stableUuid } from "fundapi/rollout";
import type { Evaluation, Rollouts } from "fundapi/rollout";
import { createTelemetry, ticketSource } from "fundapi/telemetry";
import type { Telemetry, TelemetryEvent } from "fundapi/telemetry";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_: Equal<A, B>): void {}

interface Fund {
  id: number;
  name: string;
}

const token = async ({ refused }: { refused: boolean }) => (refused ? "fresh" : sessionStorage.getItem("token"));
const options: ClientOptions = { environment: "prod", operation: "fund-create", ttl: 3600, token };
const funds: Client = createClient(options);
const result: Result<Fund> = await funds.post<Fund>("/api/funds", { name: "Harbor Growth I" }, { nonce: "1" });
same<typeof result.status, "created" | "replayed">(true);
same<typeof result.body, Fund>(true);
same<typeof result.response, Response>(true);
same<typeof result.text, string>(true);

try {
  await funds.post("/api/funds", {}, { key: funds.draftKey("fund-setup"), onAttempt: ({ attempt, of }) => attempt < of });
} catch (error) {
  if (error instanceof ProblemError) {
    same<typeof error.problem, Record<string, unknown> | null>(true);
    if (error instanceof ConflictError) throw error;
    same<typeof error.status, number>(true); // any other problem
    same<typeof error.code, string>(true);
    same<typeof error.retryAfter, number | null>(true);
    error.errors.map(({ field, code, detail }) => `${field} ${code} ${detail}`);
  } else if (error instanceof UnansweredError) {
    if (error instanceof OfflineError) throw error;
    if (error instanceof TimeoutError) throw error;
    if (error instanceof ForeignAnswerError) same<typeof error.response, Response>(true);
    same<typeof error.key, string>(true);
  } else if (error instanceof ExpiredKeyError) {
    same<typeof error.firstSentAt, number | null>(true);
  }
}

const rollouts: Rollouts = createRollouts({ url: "/api/rollouts", pollInterval: 15 });
await rollouts.ready;
const evaluation: Evaluation = rollouts.evaluation("USE_FUND_STORE");
same<typeof evaluation.on, boolean>(true);
const end: () => void = rollouts.subscribe((evaluations) => evaluations["USE_FUND_STORE"]?.reason === "opt_out");
end();
readSwitches("USE_FUND_STORE", { search: "", storage: null }).emergency satisfies boolean;
stableUuid() satisfies string;

const telemetry: Telemetry = createTelemetry({
  endpoint: "/api/telemetry",
  variant: () => rollouts.variant("USE_FUND_STORE"),
  ready: rollouts.refresh,
  ticket: ticketSource({ token: () => sessionStorage.getItem("token") }),
});
const event: TelemetryEvent = telemetry.record("migration_failed", { detail: new Error("the draft") });
same<typeof event.ok, boolean>(true);
if (emergencyActive()) clearEmergency();

// @ts-expect-error the environment is missing
createClient({ operation: "fund-create" });
// @ts-expect-error a time-out is a number
createClient({ ...options, timeout: "15 s" });
// @ts-expect-error no such option
createClient({ ...options, retry: 3 });
// @ts-expect-error the payload is missing
funds.post("/api/funds");
// @ts-expect-error no such status
result.status === "conflict";
// @ts-expect-error no such reason
evaluation.reason === "because";
// @ts-expect-error a variant is a text
createTelemetry({ variant: true });
// @ts-expect-error it may be null
rollouts.config("USE_FUND_STORE").percentage;
// @ts-expect-error the dropped events are counted by the module
telemetry.dropped = "none";
