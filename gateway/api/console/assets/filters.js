// Pure functions: the conditions of a list of runs, as parameters of the URL and of GET /api/runs.

/** Conditions in the order of the menu. `values`: what is possible; `hint`: an example of a text. */
export const CONDITIONS = [
  { name: "status", label: "Status", values: ["queued", "running", "succeeded", "failed", "unknown", "not_run"] },
  { name: "workflow", label: "Workflow", hint: "support-triage" },
  { name: "client", label: "Client", hint: "app" },
  { name: "provider", label: "Provider", hint: "promptlayer" },
  { name: "code", label: "Problem code", hint: "upstream_timeout" },
  { name: "created_after", label: "Created from", hint: "2026-11-21T12:00:00Z" },
  { name: "created_before", label: "Created before", hint: "2026-11-21T13:00:00Z" },
  { name: "min_duration", label: "Took at least (s)", hint: "30" },
  { name: "max_duration", label: "Took at most (s)", hint: "60" },
  { name: "waiting_for", label: "Waiting for", values: ["limit", "breaker", "backoff", "store"] },
  { name: "retrying", label: "Retrying", values: ["true"] },
  { name: "judged", label: "Judged", values: ["true", "false"] },
  { name: "kept", label: "Durable", values: ["true", "false"] },
  { name: "api", label: "API", values: ["run", "promptlayer", "prompt_studio"] },
  { name: "tag", label: "Tag", hint: "nightly", repeated: true },
  { name: "meta", label: "Metadata", hint: "order=4711" },
  { name: "id", label: "Run id", hint: "run_7dfa4142" },
  { name: "provider_run_id", label: "Provider's run id", hint: "98766" },
  { name: "idempotency_key", label: "Idempotency key", hint: "order-4711" },
  { name: "replay_of", label: "Replay of", hint: "run_…" },
];

const LABELS = Object.fromEntries(CONDITIONS.map((each) => [each.name, each.label]));

/** Built-in views: name, title and conditions. */
export const VIEWS = [
  { name: "all", title: "All", conditions: {} },
  { name: "unknown", title: "Unknown", conditions: { status: "unknown", judged: "false" } },
  { name: "failed", title: "Failed", conditions: { status: "failed" } },
  { name: "slow", title: "Slow", conditions: { min_duration: "10" } },
  { name: "retrying", title: "Retrying", conditions: { retrying: "true" } },
];

export const MAX_VIEWS = 30;

/** Saved views of the browser's storage that can be used: { name, search, columns }. */
export function validViews(stored) {
  const isView = (each) => typeof each?.name === "string" && typeof each.search === "string" && (each.columns === undefined || Array.isArray(each.columns));
  return Array.isArray(stored) ? stored.filter(isView).slice(0, MAX_VIEWS) : [];
}

/** The views with one more, which replaces one of the same name where it stands. */
export function addView(views, view) {
  const isKnown = views.some((each) => each.name === view.name);
  return isKnown ? views.map((each) => (each.name === view.name ? view : each)) : [...views, view].slice(0, MAX_VIEWS);
}

const PAGING = new Set(["cursor", "limit"]);

/** Conditions of a query as [name, value] pairs, without those on pages. */
export const conditionPairs = (search) => [...new URLSearchParams(search)].filter(([name]) => !PAGING.has(name));

/** Chips of a query: index, label and value of each condition. */
export function chips(search) {
  return conditionPairs(search).map(([name, value], index) => {
    const label = name.startsWith("meta.") ? `Metadata ${name.slice(5)}` : (LABELS[name] ?? name);
    return { index, name, label, value };
  });
}

/** The query without the condition at `index`; the page begins anew. */
export function withoutCondition(search, index) {
  return toSearch(conditionPairs(search).filter((_, each) => each !== index));
}

/** The query with one more condition, which replaces one of the same name; the page begins anew. */
export function withCondition(search, name, value) {
  let key = name;
  let text = value;
  if (name === "meta") {
    const [member, ...rest] = value.split("=");
    key = `meta.${member.trim()}`;
    text = rest.join("=").trim();
  }
  const others = conditionPairs(search).filter(([each, old]) => each !== key || (key === "tag" && old !== text));
  return toSearch([...others, [key, text]]);
}

/** The name of the built-in view that has exactly the conditions of a query, or null. */
export function viewOf(search) {
  const given = toSearch(conditionPairs(search).sort());
  const found = VIEWS.find((view) => toSearch(Object.entries(view.conditions).sort()) === given);
  return found ? found.name : null;
}

/** "?a=b", or "" without parameters. */
export function toSearch(pairs) {
  const text = new URLSearchParams(pairs).toString();
  return text ? `?${text}` : "";
}

/** The filter of POST /api/replays for a query. */
export function replayFilter(search) {
  const filter = {};
  for (const [name, value] of conditionPairs(search)) {
    if (name in filter) filter[name] = [].concat(filter[name], value);
    else filter[name] = value;
  }
  return filter;
}

/** Where a look-up leads: { path } of a run, or { search } of a list. `kind`: id, provider_run_id, idempotency_key. */
export function lookUp(kind, text, client = "") {
  const wanted = text.trim();
  if (kind === "id" && /^run_[0-9a-f]{32}$/.test(wanted)) return { path: `/runs/${wanted}` };
  const pairs = [[kind, wanted]];
  if (kind === "idempotency_key") pairs.push(["client", client.trim()]);
  return { search: toSearch(pairs) };
}
