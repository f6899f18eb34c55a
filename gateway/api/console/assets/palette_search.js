// Pure functions: which commands of the palette match a text, and which look-ups it offers.

const RUN_ID = /^run_[0-9a-f]{32}$/;
const MAX_CLIENTS = 8;

/** The commands whose title has every word of `text`, those that begin with it first. */
export function matching(commands, text) {
  const wanted = text.trim().toLowerCase();
  const parts = wanted.split(/\s+/).filter(Boolean);
  const found = commands.filter((each) => parts.every((part) => `${each.group} ${each.title}`.toLowerCase().includes(part)));
  const rank = (each) => (wanted && each.title.toLowerCase().startsWith(wanted) ? 0 : 1);
  return found.map((each, index) => [rank(each), index, each]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , each]) => each);
}

/** Look-ups of runs for a text: { title, kind, text, client }, in the form of `filters.lookUp`. */
export function lookUps(text, clients = []) {
  const wanted = text.trim();
  if (wanted.length < 3) return [];
  const byKey = clients.slice(0, MAX_CLIENTS).map((client) => ({
    title: `Run with the idempotency key ${wanted} of ${client}`, kind: "idempotency_key", text: wanted, client,
  }));
  if (RUN_ID.test(wanted)) return [{ title: `Open ${wanted}`, kind: "id", text: wanted, client: "" }];
  if (/\s/.test(wanted)) return byKey;
  const byId = wanted.startsWith("run_") ? [{ title: `Runs whose id begins with ${wanted}`, kind: "id", text: wanted, client: "" }] : [];
  return [...byId, { title: `Runs with the provider's id ${wanted}`, kind: "provider_run_id", text: wanted, client: "" }, ...byKey];
}

/** The index after a step in a list of `count`, which has no end; -1 for an empty list. */
export const stepped = (index, step, count) => (count ? (index + step + count) % count : -1);
