// Callbacks: by state, delivery again of one or of all since a time, and test deliveries.
import { html, useState } from "./vendor/htm-preact.js";
import { post, useData } from "./api.js";
import { RedeliverDialog, useSubmit } from "./changes.js";
import { duration, number, plural, words } from "./format.js";
import { Action, Dialog, Empty, ErrorBox, Heading, Loaded, RunLink, Table, Time, useRowKeys } from "./parts.js";
import { Link } from "./router.js";

const STATES = [["gave_up", "Given up"], ["pending", "Pending"], ["delivered", "Delivered"]];
const SINCE = [["3600", "the last hour"], ["21600", "the last 6 hours"], ["86400", "the last day"], ["604800", "the last 7 days"]];
const FAULTS = {
  refused: "The address may not be called: it is not public, or not in callbacks.allow.",
  unreachable: "No connection was made within the time-out, or the host is not known.",
  untrusted: "The certificate or the TLS version is not acceptable.",
  timeout: "The receiver was connected, and did not answer in time.",
  disconnected: "The receiver closed the connection before it answered.",
  invalid_reply: "The answer is not HTTP, or its head is too large.",
};

export function Callbacks({ search, session }) {
  const query = new URLSearchParams(search);
  const chosen = query.get("state") ?? "gave_up";
  const after = query.get("after");
  const state = useData(`/callbacks?${new URLSearchParams(after ? { state: chosen, after } : { state: chosen })}`);
  const [dialog, setDialog] = useState(null);
  useRowKeys();
  const columns = [
    { name: "id", title: "Run", cell: (id) => html`<${RunLink} id=${id} />` },
    { name: "action", title: "Action", cell: (id) => html`<${Action} kind="small" session=${session} onClick=${() => setDialog({ id })}>Deliver again…<span class="visually-hidden"> ${id}</span><//>` },
  ];
  return html`<${Heading} title="Callbacks">
      <button type="button" onClick=${state.reload}>Refresh</button>
      <${Action} session=${session} onClick=${() => setDialog("recover")}>Recover since…<//>
      <${Action} session=${session} onClick=${() => setDialog("test")}>Test delivery…<//>
    <//>
    <nav class="tabs" aria-label="States">${STATES.map(([name, title]) => html`<${Link} key=${name} to="/callbacks" search=${`?state=${name}`}
      aria-current=${name === chosen ? "page" : null}>${title}<//>`)}</nav>
    <${Loaded} state=${state} what="The callbacks could not be loaded">
      ${(page) => html`${page.runs.length === 0 ? html`<${Empty}>No callback is ${words(chosen).replace("gave up", "given up")}.<//>`
        : html`<${Table} label="Runs with this callback state" columns=${columns} rows=${page.runs} rowKey=${(id) => id} rowProps=${(id) => ({ "data-row": id })} />`}
        ${page.next && html`<p><${Link} to="/callbacks" search=${`?${new URLSearchParams({ state: chosen, after: page.next })}`}>Next page<//></p>`}`}
    <//>
    ${dialog === "test" && html`<${TestDialog} onClose=${() => setDialog(null)} />`}
    ${dialog === "recover" && html`<${RecoverDialog} onClose=${() => setDialog(null)} onDone=${state.reload} />`}
    ${dialog?.id && html`<${RedeliverDialog} id=${dialog.id} onClose=${() => setDialog(null)} onDone=${state.reload} />`}`;
}

function TestDialog({ onClose }) {
  const [url, setUrl] = useState("");
  const [result, setResult] = useState(null);
  const [busy, error, submit] = useSubmit(async () => {
    setResult(null);
    setResult(await post("/api/callbacks/test", { url: url.trim() }));
  });
  return html`<${Dialog} title="Test delivery" onClose=${onClose}>
    <p class="muted">One message of the type callback.test is checked, signed and sent as a callback is. Nothing is repeated or kept.</p>
    <form onSubmit=${submit}>
      <label class="field">Callback URL<input type="url" required maxlength="2048" value=${url} autocomplete="off" spellcheck="false"
        onInput=${(event) => setUrl(event.target.value)} /></label>
      <${ErrorBox} error=${error} what="Nothing was sent" />
      ${result && html`<${Result} result=${result} />`}
      <footer class="dialog-footer"><button class="primary" disabled=${busy}>${busy ? "Sending…" : "Send"}</button>
        <button type="button" onClick=${onClose}>Close</button></footer>
    </form>
  <//>`;
}

function Result({ result }) {
  const facts = [
    ["Status", result.status ?? "none"],
    ["Duration", duration(result.duration_ms)],
    ["Body sent", plural(result.sent_bytes, "byte")],
    ["webhook-id", html`<span class="mono wrap">${result.webhook_id}</span>`],
  ];
  return html`<div class="panel" role="status" data-result>
    <p><strong class=${result.accepted ? "status-succeeded" : "text-failed"}>${result.accepted ? "The receiver accepted it." : "The receiver did not accept it."}</strong>
      ${result.fault ? ` ${FAULTS[result.fault] ?? words(result.fault)}` : ""}</p>
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></div>`;
}

/** Count what was given up since a time, by receiver; then deliver all of it again, or that of one receiver. */
function RecoverDialog({ onClose, onDone }) {
  const [seconds, setSeconds] = useState(SINCE[2][0]);
  const [plan, setPlan] = useState(null);
  const [due, setDue] = useState(null);
  const [planning, planError, count] = useSubmit(async () => {
    setDue(null);
    const since = new Date(Date.now() - Number(seconds) * 1000).toISOString();
    setPlan({ since, ...(await post("/api/callbacks/recover", { since, dry_run: true })) });
  });
  const [busy, error, deliver] = useSubmit(async () => {
    const done = await post("/api/callbacks/recover", { since: plan.since, dry_run: false });
    setDue(done);
    onDone();
  });
  const deliverTo = useHostDelivery(plan, setDue, onDone);
  const columns = [
    { name: "host", title: "Receiver", cell: (each) => html`<span class="wrap">${each.host}</span>` },
    { name: "count", title: "Given up", right: true, cell: (each) => number(each.count) },
    { name: "action", title: "Action", cell: (each) => html`<button type="button" class="small" onClick=${() => deliverTo.start(each.host)}>Deliver<span class="visually-hidden"> to ${each.host}</span></button>` },
  ];
  return html`<${Dialog} title="Recover callbacks" onClose=${onClose}>
    <p class="muted">Callbacks that were given up become due again, with their whole schedule. Receivers recognize a repetition by its webhook-id.</p>
    <label class="field">Of runs that ended in<select value=${seconds} onChange=${(event) => {
      setSeconds(event.target.value);
      setPlan(null);
    }}>${SINCE.map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}</select></label>
    <${ErrorBox} error=${planError ?? error ?? deliverTo.error} what=${planError ? "The callbacks could not be counted" : "The callbacks were not made due"} />
    ${plan && !due && html`<div data-plan>
      <p><strong>${plan.count ? `${plural(plan.count, "callback")} ${plan.count === 1 ? "was" : "were"} given up since ` : "No callback was given up since "}<${Time} at=${plan.since} />.</strong>
        ${plan.more ? " There are more; they follow when this is repeated." : ""}</p>
      ${plan.hosts.length > 0 && html`<${Table} label="Receivers" columns=${columns} rows=${plan.hosts} rowKey=${(each) => each.host} />`}</div>`}
    ${due && html`<p class="notice" role="status">${plural(due.due, "callback")} ${due.due === 1 ? "is" : "are"} due now.${due.more ? " There are more: repeat it." : ""}</p>`}
    <footer class="dialog-footer">
      ${plan && !due ? html`<button type="button" class="primary" disabled=${busy || plan.count === 0} onClick=${deliver}>${`Deliver ${plural(plan.count, "callback")} again`}</button>`
        : html`<button type="button" class="primary" disabled=${planning} onClick=${count}>Count them</button>`}
      <button type="button" onClick=${onClose}>Close</button></footer>
  <//>`;
}

/** Deliver again what one receiver did not accept: { start(host), error }. */
function useHostDelivery(plan, setDue, onDone) {
  const [error, setError] = useState(null);
  const start = async (host) => {
    try {
      setDue(await post("/api/callbacks/recover", { since: plan.since, host, dry_run: false }));
      setError(null);
      onDone();
    } catch (failure) {
      setError(failure);
    }
  };
  return { start, error };
}
