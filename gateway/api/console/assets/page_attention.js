// Needs attention: what needs an operator, critical items first.
import { html } from "./vendor/htm-preact.js";
import { useData } from "./api.js";
import { ago } from "./format.js";
import { Copy, Empty, Heading, Loaded, Time, useRowKeys } from "./parts.js";
import { Link } from "./router.js";

const EVERY = 10_000; // milliseconds

const COMMAND_PAGES = { callbacks: "/callbacks", providers: "/providers", keys: "/keys", check: "/configuration" };

/** The page of the console for an action that is a request or a command, as { path, search }; null for other actions. */
export function actionPage(action) {
  const command = /^runward ([a-z]+)/.exec(action);
  if (command) return COMMAND_PAGES[command[1]] ? { path: COMMAND_PAGES[command[1]], search: "" } : null;
  const found = /^GET (\/[^ ?]*)(\?\S*)?$/.exec(action);
  if (!found) return null;
  const [, path, search = ""] = found;
  const pages = { "/api/runs": "/runs", "/callbacks": "/callbacks", "/providers": "/providers" };
  if (pages[path]) return { path: pages[path], search };
  const run = /^\/api(\/runs\/[A-Za-z0-9_-]+)$/.exec(path);
  return run ? { path: run[1], search: "" } : null;
}

export function Attention() {
  const state = useData("/api/attention", { every: EVERY });
  useRowKeys();
  return html`
    <${Heading} title="Needs attention">${state.data && html`<span class="muted">Checked <${Time} at=${state.data.checked_at} short /> UTC</span>`}<//>
    <${Loaded} state=${state} what="The list could not be loaded">
      ${({ items }) => (items.length === 0 ? html`<${Empty}>Nothing to do.<//>` : html`<ul class="cards">${items.map((item) => html`<${Item} key=${item.id} item=${item} />`)}</ul>`)}
    <//>
  `;
}

function Item({ item }) {
  const page = actionPage(item.action);
  return html`<li class=${`panel item item-${item.severity}`} data-row tabindex="-1">
    <div class="row"><strong class=${`severity severity-${item.severity}`}>${item.severity}</strong>
      <span class="muted">${item.kind.replaceAll("_", " ")}</span>
      ${item.since && html`<span class="muted">since <${Time} at=${item.since} /> (${ago(item.since)})</span>`}</div>
    <p>${item.summary}</p>
    <dl class="facts">
      <div><dt>Action</dt><dd>${page ? html`<${Link} to=${page.path} search=${page.search}>Show<//> ` : ""}<code>${item.action}</code> <${Copy} text=${item.action} label="Copy" /></dd></div>
      <div><dt>Runbook</dt><dd><code>${item.runbook}</code></dd></div>
    </dl>
  </li>`;
}
