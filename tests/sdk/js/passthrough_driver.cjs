// Makes every call of the official SDK that is no run, and prints the errors by call as the last line. The environment
// has base URL and key. The model vendor is replaced by a module without a network.
const Module = require("node:module");

class Completions {
  async create() {
    return { id: "x", choices: [], model: "m" };
  }
}
class OpenAI {
  constructor() {
    this.chat = { completions: new Completions() };
  }
}
const load = Module._load;
Module._load = (name, ...rest) => (name === "openai" ? { default: OpenAI, OpenAI } : load(name, ...rest));

const { PromptLayer } = require("promptlayer");
const CHAT = { type: "chat", messages: [{ role: "user", content: [{ type: "text", text: "hi" }] }] };

async function main() {
  const app = new PromptLayer({ enableTracing: true });
  const calls = {
    "templates.get": () => app.templates.get("a/b c"),
    "templates.all": () => app.templates.all(),
    "templates.publish": () => app.templates.publish({ prompt_name: "p", prompt_template: CHAT }),
    run: () => app.run({ promptName: "p" }),
    ".openai": () => new app.OpenAI().chat.completions.create({ model: "m", messages: [] }),
    log_request: () =>
      app.logRequest({
        provider: "openai", model: "m", input: CHAT, output: CHAT, request_start_time: "2026-01-01T00:00:00Z",
        request_end_time: "2026-01-01T00:00:01Z",
      }),
    "track.metadata": () => app.track.metadata({ request_id: 5, metadata: { a: "b" } }),
    "track.score": () => app.track.score({ request_id: 5, score: 90 }),
    "track.prompt": () => app.track.prompt({ request_id: 5, prompt_name: "p", prompt_input_variables: {} }),
    "track.group": () => app.track.group({ request_id: 5, group_id: 3 }),
    "group.create": () => app.group.create(),
    "skills.pull": () => app.skills.pull("a b"),
    "skills.publish": () => app.skills.publish({ name: "s", provider: "openai" }),
    "skills.update name": () => app.skills.update("a b", { name: "t" }),
    "skills.update files": () => app.skills.update("a b", { fileUpdates: [{ path: "x", content: "y" }] }),
  };
  const errors = {};
  for (const [name, call] of Object.entries(calls)) {
    try {
      await call();
    } catch (error) {
      errors[name] = `${error.name}: ${error.message}`;
    }
  }
  await new Promise((done) => setTimeout(done, 500)); // spans are exported in the background
  process.stdout.write("\n" + JSON.stringify({ calls: Object.keys(calls), errors }) + "\n", () => process.exit(0));
}

main();
