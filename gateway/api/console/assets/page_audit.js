// Audit: what was changed, by which operator.
import { html } from "./vendor/htm-preact.js";
import { useData } from "./api.js";
import { toSearch } from "./filters.js";
import { number, words } from "./format.js";
import { Code, Empty, Heading, Loaded, RunLink, Table, Time, useRowKeys } from "./parts.js";
import { Link, navigate } from "./router.js";

const PAGE = 100; // records
const RESULTS = ["begun", "succeeded", "refused", "failed"];
const RESULT_STATUS = { begun: "unknown", succeeded: "succeeded", refused: "not_run", failed: "failed" };
const FIELDS = [
  { name: "actor", label: "Actor", hint: "maria" },
  { name: "action", label: "Action", hint: "runs.judge" },
  { name: "target", label: "Target", hint: "run_…" },
  { name: "from", label: "From", hint: "2026-11-21T12:00:00Z" },
  { name: "until", label: "Before", hint: "2026-11-21T13:00:00Z" },
];

/** The records of a page, newest first, without those of beginnings whose end is on it. */
export function withoutBegun(records) {
  const ended = new Set();
  return records.filter((record) => {
    const isShown = record.result !== "begun" || !ended.has(record.act);
    ended.add(record.act);
    return isShown;
  });
}

const COLUMNS = [
  { name: "time", title: "Time (UTC)", cell: (record) => html`<${Time} at=${record.time} />` },
  { name: "actor", title: "Actor", cell: (record) => html`<${Actor} record=${record} />` },
  { name: "action", title: "Action", cell: (record) => html`<code>${record.action}</code>` },
  { name: "target", title: "Target", cell: (record) => (/^run_[0-9a-f]{32}$/.test(record.target) ? html`<${RunLink} id=${record.target} />` : record.target || "–") },
  { name: "result", title: "Result", cell: (record) => html`<${Result} record=${record} />` },
  { name: "details", title: "Details", cell: (record) => detailsText(record.details) },
  { name: "address", title: "Address", cell: (record) => record.address || "–" },
  { name: "request_id", title: "Request", cell: (record) => record.request_id || "–" },
  { name: "replica", title: "Replica", cell: (record) => record.replica },
  { name: "sequence", title: "Record", right: true, cell: (record) => html`<span title=${record.hash}>${number(record.sequence)}</span>` },
];

const VIA_WORDS = { session: "console", open: "no key is configured", unknown: "no accepted key" };

function Actor({ record }) {
  const via = VIA_WORDS[record.via];
  return html`${record.actor}${via ? html`<span class="muted">${record.actor ? `, ${via}` : via}</span>` : ""}`;
}

function Result({ record }) {
  const title = record.result === "begun" ? "No end is recorded on this page: if there is none, it is not known what became of it." : null;
  return html`<span class=${`status status-${RESULT_STATUS[record.result]}`} title=${title}><span class="dot" aria-hidden="true"></span>${record.result}</span>
    ${record.code && html` <${Code} code=${record.code} />`}`;
}

const isHash = (text) => /^[0-9a-f]{64}$/.test(text);
const detailsText = (details) => Object.entries(details).map(([name, value]) => `${words(name)} ${isHash(value) ? `${value.slice(0, 12)}…` : value}`).join(", ") || "–";

export function Audit({ search }) {
  const query = new URLSearchParams(search);
  if (!query.has("limit")) query.set("limit", String(PAGE));
  const state = useData(`/api/audit?${query}`);
  useRowKeys();
  const paging = (cursor) => {
    const changed = new URLSearchParams(search);
    changed.delete("cursor");
    if (cursor) changed.set("cursor", cursor);
    return toSearch([...changed]);
  };
  return html`<${Heading} title="Audit"><button type="button" onClick=${state.reload}>Refresh</button><//>
    <${Conditions} key=${search} query=${query} />
    <${Loaded} state=${state} what="The audit records could not be loaded">
      ${(page) => html`${page.records.length === 0
        ? html`<${Empty}>${page.complete ? "No record matches." : "None of the records examined so far matches; continue with the next page."}<//>`
        : html`<${Table} label="Audit records" columns=${COLUMNS} rows=${withoutBegun(page.records)} rowKey=${(record) => `${record.sequence} ${record.hash}`}
            rowProps=${(record) => ({ "data-row": record.sequence, tabindex: "-1" })} />`}
        <nav class="row paging" aria-label="Pages of the list">
          ${query.has("cursor") && html`<${Link} to="/audit" search=${paging(null)}>First page<//>`}
          ${page.next && html`<${Link} to="/audit" search=${paging(page.next)} rel="next">Next page<//>`}
          ${!page.complete && html`<span class="muted">The search stopped at its bound; the next page continues it.</span>`}
        </nav>
        <p class="muted">Newest record: ${number(page.head.sequence)}. The chain is verified by <code>runward audit verify</code>.</p>`}
    <//>`;
}

function Conditions({ query }) {
  const submit = (event) => {
    event.preventDefault();
    const given = [...new FormData(event.target)].map(([name, value]) => [name, String(value).trim()]);
    navigate("/audit", toSearch(given.filter(([, value]) => value)));
  };
  return html`<form class="row audit-conditions" role="search" aria-label="Conditions" onSubmit=${submit}>
    ${FIELDS.map((each) => html`<label class="field" key=${each.name}><span class="muted">${each.label}</span>
      <input name=${each.name} defaultValue=${query.get(each.name) ?? ""} placeholder=${each.hint} autocomplete="off" spellcheck="false" /></label>`)}
    <label class="field"><span class="muted">Result</span><select name="result">
      ${["", ...RESULTS].map((each) => html`<option key=${each} value=${each} selected=${each === (query.get("result") ?? "")}>${each || "any"}</option>`)}
    </select></label>
    <button>Search</button>
    ${[...query.keys()].some((name) => name !== "limit") && html`<${Link} to="/audit">All records<//>`}
  </form>`;
}
