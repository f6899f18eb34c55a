// Configuration: the values in use without secrets, and the last reload.
import { html, useState } from "./vendor/htm-preact.js";
import { useData } from "./api.js";
import { ago, number, plural } from "./format.js";
import { Empty, Heading, Loaded, Table, Time, useRowKeys } from "./parts.js";

const MAX_ROWS = 500;

export function Configuration() {
  const state = useData("/api/configuration", { every: 30_000 });
  return html`<${Heading} title="Configuration" />
    <${Loaded} state=${state} what="The configuration could not be loaded">
      ${(data) => html`<${Reload} data=${data} /><${Values} data=${data} />`}
    <//>`;
}

function Reload({ data }) {
  return data.last_reload_ok
    ? html`<p class="muted">In use since <${Time} at=${data.last_reload_at} /> (${ago(data.last_reload_at)}). The last reload was accepted.</p>`
    : html`<p class="warning-box" role="note">The configuration on disk was refused, and a restart would fail. The values below are in use since <${Time} at=${data.last_reload_at} />.
        The log line <code>reload_refused</code> and <code>runward check</code> say what is wrong.</p>`;
}

function Values({ data }) {
  const [text, setText] = useState("");
  const [changed, setChanged] = useState(true);
  useRowKeys();
  const wanted = text.trim().toLowerCase();
  const rows = data.values.filter((each) => (!changed || each.source === "configuration") && (!wanted || each.path.toLowerCase().includes(wanted)));
  const columns = [
    { name: "path", title: "Setting", cell: (each) => html`<code>${each.path}</code>` },
    { name: "value", title: "Value", cell: (each) => valueOf(each) },
    { name: "source", title: "From", cell: (each) => (each.source === "default" ? html`<span class="muted">default</span>` : "configuration") },
  ];
  return html`<div class="row toolbar">
      <label class="row">Setting <input type="search" data-search value=${text} onInput=${(event) => setText(event.target.value)} placeholder="server." autocomplete="off" spellcheck="false" /></label>
      <label class="check"><input type="checkbox" checked=${changed} onChange=${(event) => setChanged(event.target.checked)} />Configured values only</label>
      <span class="muted" role="status">${plural(rows.length, "value")}</span>
    </div>
    ${rows.length === 0 ? html`<${Empty}>No value matches. ${changed ? "Values that are the default are left out." : ""}<//>`
      : html`<${Table} label="Values" columns=${columns} rows=${rows.slice(0, MAX_ROWS)} rowKey=${(each) => each.path} rowProps=${(each) => ({ "data-row": each.path, tabindex: "-1" })} />`}
    ${rows.length > MAX_ROWS && html`<p class="muted">The first ${number(MAX_ROWS)} of them; narrow the search.</p>`}
    ${data.truncated && html`<p class="muted">The configuration has more values than are shown.</p>`}
    <p class="muted">Durations are in seconds. Secrets, hashes of keys and options of adapters are never told. A configuration is from the file, the environment or a secret file.</p>`;
}

function valueOf({ value, hidden }) {
  if (hidden) return html`<span class="muted">set, hidden</span>`;
  if (value === null) return html`<span class="muted">none</span>`;
  if (Array.isArray(value)) return value.length ? value.join(", ") : html`<span class="muted">none</span>`;
  return typeof value === "number" ? String(value) : typeof value === "boolean" ? (value ? "yes" : "no") : value;
}
