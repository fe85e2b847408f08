// OpenFeature's web SDK with its OFREP provider, against the server of argv. A command and an answer are a line each.
import { createInterface } from "node:readline";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
import { OpenFeature } from "@openfeature/web-sdk";

let status = null;
const provider = new OFREPWebProvider({
  baseUrl: process.argv[2],
  cacheMode: "disabled", // Node.js has no localStorage
  fetchImplementation: async (...request) => {
    const response = await fetch(...request);
    status = response.status;
    return response;
  },
});
await OpenFeature.setProviderAndWait(provider, { targetingKey: "nobody" });
const client = OpenFeature.getClient();
for await (const line of createInterface({ input: process.stdin })) {
  const { feature, default: fallback, context } = JSON.parse(line);
  await OpenFeature.setContext(context); // asks the server anew
  process.stdout.write(JSON.stringify({ ...client.getBooleanDetails(feature, fallback), status }) + "\n");
}
await OpenFeature.close();
