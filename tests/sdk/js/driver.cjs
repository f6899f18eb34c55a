// Calls the official SDK as an application does, and prints what it made of each call: one line of JSON, the last one.
// Standard input: {"calls": [what runWorkflow takes, ...], "pause": 0.01}; each is begun so many seconds after the one
// before it. The environment has base URL and key.
const { PromptLayer } = require("promptlayer");

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const { calls, pause } = JSON.parse(Buffer.concat(chunks).toString());
  const client = new PromptLayer();
  const told = async (call, number) => {
    await new Promise((begin) => setTimeout(begin, number * pause * 1000));
    return client.runWorkflow(call).then(
      (result) => ({ result }),
      (error) => ({ error: "Error", text: error.message }),
    );
  };
  const results = await Promise.all(calls.map(told));
  process.stdout.write("\n" + JSON.stringify(results) + "\n", () => process.exit(0));
}

main();
