// Runs: search, views, pages, columns, and replays of many.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { useData, useStored } from "./api.js";
import { ReplayDialog } from "./changes.js";
import { CONDITIONS, chips, lookUp, replayFilter, toSearch, withCondition, withoutCondition } from "./filters.js";
import { plural } from "./format.js";
import { Action, DEFAULT_COLUMNS, Empty, Heading, Loaded, RUN_COLUMNS, Table, Time, useRowKeys } from "./parts.js";
import { Link, navigate } from "./router.js";
import { Views } from "./saved_views.js";

const PAGE = 50; // runs
const LOOK_UPS = [["id", "Run id"], ["provider_run_id", "Provider's run id"], ["idempotency_key", "Idempotency key"]];

export function Runs({ search, session }) {
  const query = new URLSearchParams(search);
  if (!query.has("limit")) query.set("limit", String(PAGE));
  const state = useData(`/api/runs?${query}`);
  const [names, setNames] = useStored("runward.columns", DEFAULT_COLUMNS);
  const [selected, setSelected] = useState(new Set());
  const [replay, setReplay] = useState(null);
  useEffect(() => setSelected(new Set()), [search]);
  const toggle = (id) => setSelected((old) => {
    const changed = new Set(old);
    if (!changed.delete(id)) changed.add(id);
    return changed;
  });
  useRowKeys({
    x: () => {
      const id = document.activeElement?.closest("[data-row]")?.dataset.row;
      if (id) toggle(id);
    },
  });
  const runs = state.data?.runs ?? [];
  return html`
    <${Heading} title="Runs">
      <button type="button" onClick=${state.reload}>Refresh</button>
      <${Columns} names=${names} onChange=${setNames} />
    <//>
    <${LookUp} />
    <${Views} search=${search} names=${names} onColumns=${setNames} />
    <${Conditions} search=${search} />
    <div class="row toolbar">
      <${Action} session=${session} reason=${selected.size ? "" : "Select runs first."}
        onClick=${() => setReplay({ ids: [...selected] })}>Replay ${selected.size ? plural(selected.size, "selected run") : "selected"}…<//>
      <${Action} session=${session} reason=${query.has("idempotency_key") ? "A search by idempotency key has one run." : state.data ? (runs.length ? "" : "The list is empty.") : "The list is not loaded."}
        onClick=${() => setReplay({ filter: replayFilter(search) })}>Replay all that match…<//>
      ${state.data && html`<span class="muted">Read <${Time} at=${state.data.read_at} short /> UTC</span>`}
    </div>
    <${Loaded} state=${state} what="The runs could not be loaded">
      ${(page) => html`<${Page} page=${page} search=${search} names=${names} selected=${selected} toggle=${toggle}
        selectAll=${(all) => setSelected(new Set(all ? page.runs.map((run) => run.id) : []))} />`}
    <//>
    ${replay && html`<${ReplayDialog} selection=${replay} onClose=${() => setReplay(null)} />`}
  `;
}

function Page({ page, search, names, selected, toggle, selectAll }) {
  const query = new URLSearchParams(search);
  const all = page.runs.length > 0 && page.runs.every((run) => selected.has(run.id));
  const box = {
    name: "select",
    title: "Select",
    header: html`<input type="checkbox" aria-label="Select all of this page" checked=${all} onChange=${() => selectAll(!all)} />`,
    cell: (run) => html`<input type="checkbox" aria-label=${`Select ${run.id}`} checked=${selected.has(run.id)} onChange=${() => toggle(run.id)} />`,
  };
  const columns = [box, ...RUN_COLUMNS.filter((column) => names.includes(column.name))];
  const paging = (cursor) => {
    const changed = new URLSearchParams(search);
    changed.delete("cursor");
    if (cursor) changed.set("cursor", cursor);
    return toSearch([...changed]);
  };
  const filtered = chips(search).length > 0;
  return html`
    ${page.runs.length === 0
      ? html`<${Empty}>${!page.complete ? "None of the runs examined so far matches; continue with the next page." : filtered ? "No run matches these conditions." : "No run is recorded yet."}<//>`
      : html`<${Table} label="Runs" columns=${columns} rows=${page.runs} rowKey=${(run) => run.id}
          rowProps=${(run) => ({ "data-row": run.id, tabindex: "-1", class: selected.has(run.id) ? "selected" : "" })} />`}
    <nav class="row paging" aria-label="Pages of the list">
      ${query.has("cursor") && html`<${Link} to="/runs" search=${paging(null)}>First page<//>`}
      ${page.next && html`<${Link} to="/runs" search=${paging(page.next)} rel="next">Next page<//>`}
      ${!page.complete && html`<span class="muted">The search stopped at its bound; the next page continues it.</span>`}
    </nav>
  `;
}

function LookUp() {
  const [kind, setKind] = useState("id");
  const submit = (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    const found = lookUp(kind, String(fields.get("text")), String(fields.get("client") ?? ""));
    if (found.path) navigate(found.path);
    else navigate("/runs", found.search);
  };
  return html`<form class="row lookup" role="search" onSubmit=${submit}>
    <select aria-label="Look up by" value=${kind} onChange=${(event) => setKind(event.target.value)}>
      ${LOOK_UPS.map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}
    </select>
    <input type="search" name="text" required data-search aria-label=${LOOK_UPS.find(([value]) => value === kind)[1]} autocomplete="off"
      spellcheck="false" placeholder=${kind === "id" ? "run_… (press /)" : ""} />
    ${kind === "idempotency_key" && html`<input name="client" required aria-label="Client that used the key" placeholder="client" autocomplete="off" />`}
    <button>Look up</button>
  </form>`;
}

function Conditions({ search }) {
  const [name, setName] = useState("workflow");
  const chosen = CONDITIONS.find((each) => each.name === name);
  const add = (event) => {
    event.preventDefault();
    const value = String(new FormData(event.target).get("value") ?? "").trim();
    if (value) {
      navigate("/runs", withCondition(search, name, value));
      event.target.reset();
    }
  };
  const given = chips(search);
  return html`<div class="row conditions">
    <ul class="chips" aria-label="Conditions">
      ${given.map((chip) => html`<li key=${`${chip.name}=${chip.value}`} class="chip"><span>${chip.label}: <b>${chip.value}</b></span>
        <button type="button" aria-label=${`Remove the condition ${chip.label}: ${chip.value}`}
          onClick=${() => navigate("/runs", withoutCondition(search, chip.index))}>✕</button></li>`)}
    </ul>
    <form class="row" onSubmit=${add} aria-label="Add a condition">
      <select aria-label="Condition" value=${name} onChange=${(event) => setName(event.target.value)}>
        ${CONDITIONS.map((each) => html`<option key=${each.name} value=${each.name}>${each.label}</option>`)}
      </select>
      ${chosen.values
        ? html`<select name="value" aria-label=${`Value of ${chosen.label}`}>${chosen.values.map((value) => html`<option key=${value} value=${value}>${value.replace("_", " ")}</option>`)}</select>`
        : html`<input name="value" aria-label=${`Value of ${chosen.label}`} placeholder=${chosen.hint} autocomplete="off" spellcheck="false" />`}
      <button>Add</button>
    </form>
  </div>`;
}

function Columns({ names, onChange }) {
  const toggle = (name) => onChange(RUN_COLUMNS.map((each) => each.name).filter((each) => (each === name) !== names.includes(each)));
  return html`<details class="menu">
    <summary>Columns</summary>
    <div class="menu-body panel">
      ${RUN_COLUMNS.map((column) => html`<label class="check" key=${column.name}>
        <input type="checkbox" checked=${names.includes(column.name)} disabled=${column.name === "id"} onChange=${() => toggle(column.name)} />${column.title}</label>`)}
      <button type="button" class="small" onClick=${() => onChange(DEFAULT_COLUMNS)}>Default columns</button>
    </div>
  </details>`;
}
