// Providers: circuits, figures, and what operators set for their starts.
import { html, useState } from "./vendor/htm-preact.js";
import { useData } from "./api.js";
import { OverrideDialog } from "./changes.js";
import { duration, number, percent, words } from "./format.js";
import { Action, Empty, Heading, Loaded, Time } from "./parts.js";
import { Link } from "./router.js";

const EVERY = 3000; // milliseconds
const CHANGES = [["suspended", "Suspend…"], ["open", "Open…"], ["closed", "Close…"], ["auto", "Automatic…"]];
const MODES = { auto: "automatic", suspended: "suspended", open: "circuits forced open", closed: "circuits forced closed" };

export function Providers({ session }) {
  const state = useData("/api/providers", { every: EVERY });
  const [change, setChange] = useState(null);
  return html`
    <${Heading} title="Providers" />
    <${Loaded} state=${state} what="The providers could not be loaded">
      ${({ providers }) => (providers.length === 0 ? html`<${Empty}>No provider is configured.<//>`
        : providers.map((each) => html`<${Provider} key=${each.provider} provider=${each} session=${session} onChange=${(mode) => setChange({ provider: each.provider, mode })} />`))}
    <//>
    ${change && html`<${OverrideDialog} ...${change} onClose=${() => setChange(null)} onDone=${state.reload} />`}
  `;
}

function Provider({ provider, session, onChange }) {
  const { mode } = provider;
  const circuits = Object.entries(provider.circuits);
  const figures = [
    ["Starts", number(provider.starts)],
    ["Errors", `${number(provider.errors)} (${percent(provider.error_share)})`, provider.errors > 0],
    ["95 %", duration(provider.p95_ms)],
    ["In flight", number(provider.in_flight)],
    ["Polls per run", number(provider.polls_per_run, 1)],
    ["Notified", percent(provider.hint_share)],
  ];
  return html`<section class="panel" aria-label=${provider.provider} data-provider=${provider.provider}>
    <header class="panel-header">
      <h2>${provider.provider} <span class=${`badge ${mode === "auto" ? "" : "badge-warning"}`}>${MODES[mode] ?? mode}</span></h2>
      <div class="row">${CHANGES.map(([wanted, title]) => html`<${Action} key=${wanted} kind="small" session=${session}
        reason=${wanted === mode ? "This is the mode now." : ""} onClick=${() => onChange(wanted)}>${title}<span class="visually-hidden"> ${provider.provider}</span><//>`)}</div>
    </header>
    ${mode !== "auto" && html`<p class="warning-box">Set ${provider.since ? html`at <${Time} at=${provider.since} />` : "by an operator"}${provider.note ? `: ${provider.note}` : ", without a note"}.</p>`}
    <dl class="facts columns">${figures.map(([title, value, bad]) => html`<div key=${title}><dt>${title}</dt><dd class=${bad ? "text-failed" : ""}>${value}</dd></div>`)}</dl>
    <h3>Circuits</h3>
    ${circuits.length === 0 ? html`<p class="muted">No run was started by this replica yet.</p>`
      : html`<ul class="chips">${circuits.map(([workflow, circuit]) => html`<li key=${workflow} class=${`chip circuit-${circuit}`}>${workflow}: <b>${words(circuit)}</b></li>`)}</ul>`}
    <p class="row"><${Link} to="/runs" search=${`?${new URLSearchParams({ provider: provider.provider })}`}>Runs<//>
      <${Link} to="/runs" search=${`?${new URLSearchParams({ provider: provider.provider, status: "failed" })}`}>Failed runs<//></p>
  </section>`;
}
