// Pure functions for a run on behalf of a client: its request, which workflows a client may run, and shell commands.

const quote = (word) => (/^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** { value } of the JSON object in a text, or { error } with a sentence. */
export function parseObject(text, name = "The input") {
  if (!text.trim()) return { value: {} };
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { error: `${name} is not valid JSON: ${error.message}.` };
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return { error: `${name} has to be an object, such as {"question": "Why?"}.` };
  return { value };
}

/** { body } of POST /api/run for the values of the form, or { error } with a sentence. */
export function startBody(form) {
  const input = parseObject(form.input);
  if (input.error) return input;
  const metadata = parseObject(form.metadata ?? "", "The metadata");
  if (metadata.error) return metadata;
  const run = { workflow: form.workflow.trim(), input: input.value };
  if (Object.keys(metadata.value).length) run.metadata = metadata.value;
  const tags = (form.tags ?? "").split(",").map((each) => each.trim()).filter(Boolean);
  if (tags.length) run.tags = tags;
  if (form.label?.trim()) run.label = form.label.trim();
  for (const name of ["version", "timeout"]) {
    if (!form[name]) continue;
    const number = Number(form[name]);
    if (!Number.isFinite(number) || number <= 0) return { error: `The ${name} has to be a number above 0.` };
    run[name] = number;
  }
  if (!run.workflow) return { error: "Name a workflow." };
  if (!form.client) return { error: "Choose a client." };
  if (!form.key.trim()) return { error: "An idempotency key is needed, so that a repetition starts nothing twice." };
  return { body: { client: form.client, idempotency_key: form.key.trim(), run } };
}

/** Aliases that a client with these patterns may run. */
export function permitted(aliases, patterns) {
  const expressions = patterns.filter((each) => !each.includes("/")).map(globExpression);
  return aliases.filter((alias) => expressions.some((each) => each.test(alias)));
}

function globExpression(pattern) {
  const text = pattern.replace(/[.+^${}()|\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".").replaceAll("[!", "[^");
  try {
    return new RegExp(`^(?:${text})$`);
  } catch {
    return /^$/;
  }
}

/** An idempotency key from random bytes: "console-…". */
export const newKey = (bytes) => `console-${[...bytes].map((each) => each.toString(16).padStart(2, "0")).join("")}`;

/** The command for the operator: the same request to the operations port. Its key is a variable of the shell. */
export function operatorCommand(origin, body, { keyRequired = false } = {}) {
  const key = keyRequired ? ' -H "Authorization: Bearer $RUNWARD_OPS_KEY"' : "";
  return `curl -sS ${quote(`${origin}/api/run`)}${key} -H 'Content-Type: application/json' -d ${quote(JSON.stringify(body))}`;
}

/** The command for the client: the same run with its own key, which is a variable of the shell as the address is. */
export function clientCommand(body) {
  const key = quote(`Idempotency-Key: ${body.idempotency_key}`);
  const fields = `-H "Authorization: Bearer $RUNWARD_KEY" -H ${key} -H 'Prefer: respond-async' -H 'Content-Type: application/json'`;
  return `curl -sS "$RUNWARD_URL/run" ${fields} -d ${quote(JSON.stringify(body.run))}`;
}
