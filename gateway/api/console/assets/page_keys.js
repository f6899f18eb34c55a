// Keys of clients that are created while the gateway runs: list, new key, rotation, end, and try a key.
import { html, useState } from "./vendor/htm-preact.js";
import { post, useData } from "./api.js";
import { useSubmit } from "./changes.js";
import { ago, words } from "./format.js";
import { ExpireDialog, NewKeyDialog, RevokeDialog, RotateDialog } from "./key_dialogs.js";
import { limitsText } from "./page_lists.js";
import { Action, Empty, ErrorBox, Heading, Loaded, Table, Time, useRowKeys } from "./parts.js";
import { Link, navigate } from "./router.js";

const EVERY = 15_000; // milliseconds
const REFUSALS = {
  malformed: "It has not the form of a key: check whether all of it was copied.",
  unknown: "No client has this key.",
  expired: "It has expired.",
  revoked: "It was revoked.",
  rotated: "It was rotated, and the grace has ended.",
  no_client: "Its client is not configured any more.",
  not_supported: "A later version of the gateway created it.",
};

export function Keys({ search, session }) {
  const query = new URLSearchParams(search);
  const clients = useData("/api/clients");
  const state = useData(`/api/keys${search}`, { every: EVERY });
  const [dialog, setDialog] = useState(null);
  useRowKeys();
  const close = () => setDialog(null);
  const act = (kind, key) => () => setDialog({ kind, key });
  const columns = [
    { name: "name", title: "Key", cell: (key) => html`<span title=${key.id}>${key.name}</span>` },
    { name: "client", title: "Client", cell: (key) => html`<${Link} to="/keys" search=${`?${new URLSearchParams({ client: key.client })}`}>${key.client}<//>` },
    { name: "state", title: "State", cell: (key) => html`<${State} entry=${key} />` },
    { name: "last_used", title: "Last used", cell: (key) => (key.last_used ? html`<${Time} at=${key.last_used} /> <span class="muted">${ago(key.last_used)}</span>` : html`<span class="muted">never, or not known</span>`) },
    { name: "expires", title: "Expires", cell: (key) => (key.expires ? html`<${Time} at=${key.expires} /> <span class="muted">${ago(key.expires)}</span>` : "does not expire") },
    { name: "action", title: "Action", cell: (key) => html`<div class="row actions">${actionsOf(key).map(([kind, title, reason]) => html`<${Action} key=${kind}
      kind="small" session=${session} reason=${reason} onClick=${act(kind, key)}>${title}<span class="visually-hidden"> ${key.name}</span><//>`)}</div>` },
    { name: "workflows", title: "Workflows", cell: (key) => key.workflows?.join(", ") ?? "all of its client" },
    { name: "limits", title: "Limits", cell: (key) => limitsText(key.limits) },
    { name: "created", title: "Created", cell: (key) => html`<${Time} at=${key.created} />${key.created_by ? ` by ${key.created_by}` : ""}` },
  ];
  const names = clients.data?.clients.map((each) => each.client) ?? [];
  const common = { onClose: close, onDone: state.reload };
  return html`<${Heading} title="Keys">
      <label class="row">Client <select value=${query.get("client") ?? ""} onChange=${(event) => navigate("/keys", event.target.value ? `?${new URLSearchParams({ client: event.target.value })}` : "")}>
        <option value="">all</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      <button type="button" onClick=${state.reload}>Refresh</button>
      <${Action} session=${session} reason=${names.length ? "" : "No client is configured."} kind="primary" onClick=${act("new")}>New key…<//>
    <//>
    <${TryKey} session=${session} />
    <${Loaded} state=${state} what="The keys could not be loaded">
      ${(page) => html`${page.keys.length === 0 ? html`<${Empty}>No key was created here yet. Keys of the configuration are on the page <${Link} to="/clients">Clients and limits<//>.<//>`
        : html`<${Table} label="Keys" columns=${columns} rows=${page.keys} rowKey=${(key) => key.id} rowProps=${(key) => ({ "data-row": key.id, tabindex: "-1" })} />`}
        ${page.next && html`<p><${Link} to="/keys" search=${`?${new URLSearchParams({ ...Object.fromEntries(query), before: page.next })}`}>Next page<//></p>`}`}
    <//>
    ${dialog?.kind === "new" && html`<${NewKeyDialog} clients=${names} client=${query.get("client")} ...${common} />`}
    ${dialog?.kind === "rotate" && html`<${RotateDialog} entry=${dialog.key} ...${common} />`}
    ${dialog?.kind === "revoke" && html`<${RevokeDialog} entry=${dialog.key} ...${common} />`}
    ${dialog?.kind === "expire" && html`<${ExpireDialog} entry=${dialog.key} ...${common} />`}`;
}

function actionsOf(key) {
  const ended = key.state === "revoked" || key.state === "expired";
  return [
    ["rotate", "Rotate…", ended ? "A key that has ended cannot be rotated." : ""],
    ["expire", "Expiry…", key.state === "revoked" ? "A key that is revoked has no expiry." : ""],
    ["revoke", "Revoke…", key.state === "revoked" ? "It is revoked." : ""],
  ];
}

function State({ entry }) {
  const kind = { active: "succeeded", expired: "not_run", revoked: "not_run", no_client: "failed" }[entry.state] ?? "unknown";
  return html`<span class=${`status status-${kind}`}><span class="dot" aria-hidden="true"></span>${words(entry.state).replace("no client", "without a client")}</span>
    ${entry.previous_until ? html`<br /><span class="muted">previous text until <${Time} at=${entry.previous_until} /></span>` : ""}`;
}

/** Say which client a key is of, or why it is refused. The key is kept by this form only, and forgotten once it was sent. */
function TryKey({ session }) {
  const [key, setKey] = useState("");
  const [result, setResult] = useState(null);
  const [busy, error, submit] = useSubmit(async () => {
    setResult(null);
    const tried = key.trim();
    setKey("");
    setResult(await post("/api/keys/check", { key: tried }));
  });
  const ready = key.trim() ? "" : "Paste a key first.";
  return html`<form class="panel try-key" onSubmit=${(event) => {
    event.preventDefault();
    if (!ready && session.role !== "viewer") submit();
  }} aria-label="Try a key">
    <div class="row"><label class="row">Try a key <input type="password" value=${key} autocomplete="off" spellcheck="false" placeholder="rw_…" maxlength="1000"
      onInput=${(event) => setKey(event.target.value)} /></label>
      <${Action} session=${session} reason=${ready || (busy ? "It is tried." : "")} onClick=${submit}>Try<//></div>
    <p class="muted">It is sent to the gateway once, and not kept.</p>
    <${ErrorBox} error=${error} what="The key was not tried" />
    ${result && html`<div role="status" data-result><p><strong class=${result.accepted ? "status-succeeded" : "text-failed"}>${result.accepted ? `A key of ${result.client}.` : "Refused."}</strong>
      ${result.accepted ? ` ${result.source === "store" ? `Created here as ${result.stored?.name}.` : "It is in the configuration."}` : ` ${REFUSALS[result.why] ?? words(result.why)}`}</p>
      ${result.accepted && result.stored && html`<p class="muted">May run: ${result.stored.workflows?.join(", ") ?? "all of its client"}. Limits of the key: ${limitsText(result.stored.limits)}.
        ${result.stored.expires ? html` Expires <${Time} at=${result.stored.expires} />.` : " Does not expire."}</p>`}</div>`}
  </form>`;
}
