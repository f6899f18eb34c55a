// Clients and limits, workflows, and the documentation of problem codes.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { CONSOLE, useData } from "./api.js";
import { ago, duration, number, words } from "./format.js";
import { Empty, Heading, Loaded, Table, Time, useRowKeys } from "./parts.js";
import { Link, navigate } from "./router.js";

const EVERY = 10_000; // milliseconds
const runsOf = (conditions) => `?${new URLSearchParams(conditions)}`;

export function Clients() {
  const state = useData("/api/clients", { every: EVERY });
  useRowKeys();
  const columns = [
    { name: "client", title: "Client", cell: (each) => html`<${Link} to="/runs" search=${runsOf({ client: each.client })}>${each.client}<//>` },
    { name: "workflows", title: "Workflows", cell: (each) => (each.workflows.join(", ") === "*" ? "all" : each.workflows.join(", ")) },
    { name: "limits", title: "Limits", cell: (each) => limitsText(each.limits) },
    { name: "runs", title: "Runs", right: true, cell: (each) => number(each.runs) },
    { name: "refused", title: "Refused", right: true, cell: (each) => html`<span class=${each.refused ? "text-unknown" : ""}>${number(each.refused)}</span>` },
    { name: "keys", title: "Keys", cell: (each) => html`<ul class="plain">${each.keys.map((key, index) => html`<li key=${index}>${key.name ?? `key ${index + 1}`}, ${keyExpiry(key)}</li>`)}</ul>` },
  ];
  return html`<${Heading} title="Clients and limits"><${Link} to="/keys">Keys, and try a key<//><//>
    <${Loaded} state=${state} what="The clients could not be loaded">
      ${({ clients }) => (clients.length === 0 ? html`<${Empty}>No client is configured.<//>`
        : html`<${Table} label="Clients" columns=${columns} rows=${clients} rowKey=${(each) => each.client} rowProps=${(each) => ({ "data-row": each.client })} />`)}
    <//>`;
}

/** "rate 20/1s, concurrency 20" */
export function limitsText(limits) {
  const given = Object.entries(limits ?? {}).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? given.map(([name, value]) => `${words(name)} ${typeof value === "number" ? number(value) : value}`).join(", ") : "none";
}

const keyExpiry = (key) => (key.expires ? html`expires <${Time} at=${key.expires} /> <span class="muted">${ago(key.expires)}</span>` : "does not expire");

export function Workflows() {
  const state = useData("/api/workflows", { every: EVERY });
  useRowKeys();
  const columns = [
    { name: "workflow", title: "Workflow", cell: (each) => html`<${Link} to="/runs" search=${runsOf({ workflow: each.workflow })}>${each.workflow}<//>` },
    { name: "provider", title: "Provider", cell: (each) => each.provider },
    { name: "name", title: "Name there", cell: (each) => each.name ?? "–" },
    { name: "pin", title: "Label, version", cell: (each) => [each.label, each.version].filter((part) => part !== null && part !== undefined).join(", ") || "–" },
    { name: "fallback", title: "Fallbacks", cell: (each) => (each.fallback ?? []).join(", ") || "–" },
    { name: "timeout", title: "Time-out", right: true, cell: (each) => (typeof each.timeout === "number" ? duration(each.timeout * 1000) : (each.timeout ?? "–")) },
    { name: "runs", title: "Runs", right: true, cell: (each) => number(each.runs) },
    { name: "p95", title: "95 %", right: true, cell: (each) => duration(each.p95_ms) },
    { name: "start", title: "Start", cell: (each) => html`<${Link} to="/start" search=${runsOf({ workflow: each.workflow })}>Run it…<span class="visually-hidden"> ${each.workflow}</span><//>` },
  ];
  return html`<${Heading} title="Workflows" />
    <${Loaded} state=${state} what="The workflows could not be loaded">
      ${({ workflows }) => (workflows.length === 0 ? html`<${Empty}>No workflow is configured.<//>`
        : html`<${Table} label="Workflows" columns=${columns} rows=${workflows} rowKey=${(each) => each.workflow} rowProps=${(each) => ({ "data-row": each.workflow })} />`)}
    <//>`;
}

/** Documentation of the problem codes, generated from the gateway's own table. */
export function Problems({ code }) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const load = async () => {
    try {
      const response = await fetch(`${CONSOLE}assets/problem_codes.json`);
      if (!response.ok) throw new Error(`The gateway responded with ${response.status}.`);
      setState({ data: await response.json(), error: null, loading: false });
    } catch (error) {
      setState({ data: null, error, loading: false });
    }
  };
  useEffect(() => {
    load();
  }, []);
  const columns = [
    { name: "code", title: "Code", cell: ([name]) => html`<${Link} to=${`/problems/${name}`}><code>${name}</code><//>` },
    { name: "status", title: "Status", right: true, cell: ([, info]) => info.status },
    { name: "title", title: "Title", cell: ([, info]) => info.title },
  ];
  return html`<${Heading} title=${code ? `Problem ${code}` : "Problem codes"}>${code && html`<${Link} to="/problems">All codes<//>`}<//>
    <${Loaded} state=${{ ...state, reload: load }} what="The documentation could not be loaded">
      ${(codes) => (!code ? html`<${Table} label="Problem codes" columns=${columns} rows=${Object.entries(codes)} rowKey=${([name]) => name} rowProps=${([name]) => ({ "data-row": name })} />`
        : codes[code] ? html`<${Problem} code=${code} info=${codes[code]} />` : html`<${Empty}>This version of the gateway has no such code.<//>`)}
    <//>`;
}

function Problem({ code, info }) {
  const facts = [["Title", info.title], ["HTTP status", info.status], ["Meaning", info.meaning], ["What to do", info.action],
    ["Outcomes", info.outcomes.map((each) => (each ? words(each) : "no run")).join(", ")],
    ["Runs", html`<${Link} to="/runs" search=${runsOf({ code })}>Runs with this problem<//>`]];
  return html`<section class="panel" aria-label=${code}><dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></section>`;
}

export function NotFound() {
  return html`<${Heading} title="Page not found" /><${Empty}>The console has no such page. <button type="button" onClick=${() => navigate("/")}>Overview</button><//>`;
}
