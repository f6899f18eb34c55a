// Dialogs for keys of clients. The text of a new key is shown once, in the dialog that made it.
import { html, useState } from "./vendor/htm-preact.js";
import { post } from "./api.js";
import { useSubmit } from "./changes.js";
import { Copy, Dialog, ErrorBox, Time } from "./parts.js";

const DAYS = [["", "does not expire"], ["30", "in 30 days"], ["90", "in 90 days"], ["365", "in a year"]];
const GRACES = [["1h", "one hour"], ["24h", "a day"], ["3d", "3 days"], ["7d", "7 days"], ["0s", "no time: it ends now"]];
const expiry = (days) => (days ? new Date(Date.now() + Number(days) * 86_400_000).toISOString() : null);

/** The text of a key, with the warning that it is not shown again. */
function Shown({ entry, onClose }) {
  return html`<div role="status" data-new-key>
    <p class="warning-box">Copy it now: the gateway keeps its hash only, and cannot show it again.</p>
    <label class="field">Key of ${entry.client}<input readonly class="mono" value=${entry.key} onFocus=${(event) => event.target.select()} /></label>
    <p class="row"><${Copy} text=${entry.key} label="Copy the key" title="Copy the key" />
      ${entry.previous_until && html`<span>The previous text is valid until <${Time} at=${entry.previous_until} />.</span>`}</p>
    <footer class="dialog-footer"><button type="button" class="primary" onClick=${onClose}>I have copied it</button></footer></div>`;
}

export function NewKeyDialog({ clients, client, onClose, onDone }) {
  const [form, setForm] = useState({ client: clients.includes(client) ? client : clients[0], name: "", days: "90", workflows: "" });
  const [made, setMade] = useState(null);
  const set = (name) => (event) => setForm({ ...form, [name]: event.target.value });
  const [busy, error, submit] = useSubmit(async () => {
    const body = { client: form.client, name: form.name.trim() };
    const patterns = form.workflows.split(",").map((each) => each.trim()).filter(Boolean);
    if (patterns.length) body.workflows = patterns;
    if (form.days) body.expires = expiry(form.days);
    setMade(await post("/api/keys", body));
    onDone();
  });
  return html`<${Dialog} title="New key" onClose=${onClose}>${made ? html`<${Shown} entry=${made} onClose=${onClose} />` : html`<form onSubmit=${submit}>
    <label class="field">Client<select value=${form.client} onChange=${set("client")}>${clients.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
    <label class="field">What it is for<input required maxlength="100" value=${form.name} onInput=${set("name")} autocomplete="off" placeholder="checkout in production" /></label>
    <label class="field">Expires<select value=${form.days} onChange=${set("days")}>${DAYS.map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}</select></label>
    <label class="field">Workflows, with commas; empty: all that the client may run
      <input value=${form.workflows} onInput=${set("workflows")} autocomplete="off" spellcheck="false" placeholder="support-*" /></label>
    <${ErrorBox} error=${error} what="The key was not created" />
    <footer class="dialog-footer"><button class="primary" disabled=${busy}>Create the key</button>
      <button type="button" onClick=${onClose}>Cancel</button></footer></form>`}<//>`;
}

export function RotateDialog({ entry, onClose, onDone }) {
  const [grace, setGrace] = useState("24h");
  const [keep, setKeep] = useState("current");
  const [made, setMade] = useState(null);
  const [busy, error, submit] = useSubmit(async () => {
    const body = entry.previous_until ? { grace, keep } : { grace };
    setMade(await post(`/api/keys/${entry.id}/rotate`, body));
    onDone();
  });
  return html`<${Dialog} title=${`Rotate ${entry.name}`} onClose=${onClose}>${made ? html`<${Shown} entry=${made} onClose=${onClose} />` : html`<form onSubmit=${submit}>
    <p>The key gets a new text. Its id, its client, its scope, its limits and its expiry stay.</p>
    <label class="field">The present text stays valid for<select value=${grace} onChange=${(event) => setGrace(event.target.value)}>
      ${GRACES.map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}</select></label>
    ${entry.previous_until && html`<fieldset><legend>An earlier rotation is in its grace. Beside the new text stays valid</legend>
      ${[["current", "the present text; the previous one ends now"], ["previous", "the previous text; the present one was never given to an app"]].map(([value, title]) => html`<label class="check" key=${value}>
        <input type="radio" name="keep" value=${value} checked=${keep === value} onChange=${() => setKeep(value)} />${title}</label>`)}</fieldset>`}
    ${grace === "0s" && html`<p class="warning-box" role="note">Apps that use the present text are refused from now on.</p>`}
    <${ErrorBox} error=${error} what="The key was not rotated" />
    <footer class="dialog-footer"><button class="primary" disabled=${busy}>Rotate</button>
      <button type="button" onClick=${onClose}>Cancel</button></footer></form>`}<//>`;
}

export function RevokeDialog({ entry, onClose, onDone }) {
  const [busy, error, submit] = useSubmit(async () => {
    await post(`/api/keys/${entry.id}/revoke`);
    onDone();
    onClose();
  });
  return html`<${Dialog} title=${`Revoke ${entry.name}`} onClose=${onClose}>
    <p>New requests with this key of ${entry.client} are refused within two seconds at every replica. Runs in progress end as they would. It cannot be undone.</p>
    <${ErrorBox} error=${error} what="The key was not revoked" />
    <footer class="dialog-footer"><button type="button" class="danger" disabled=${busy} onClick=${submit}>Revoke</button>
      <button type="button" onClick=${onClose}>Cancel</button></footer><//>`;
}

export function ExpireDialog({ entry, onClose, onDone }) {
  const [days, setDays] = useState("30");
  const [busy, error, submit] = useSubmit(async () => {
    await post(`/api/keys/${entry.id}/expire`, { at: expiry(days) });
    onDone();
    onClose();
  });
  return html`<${Dialog} title=${`Expiry of ${entry.name}`} onClose=${onClose}><form onSubmit=${submit}>
    <p class="muted">${entry.expires ? html`It expires <${Time} at=${entry.expires} /> now.` : "It does not expire now."}</p>
    <label class="field">It is to expire<select value=${days} onChange=${(event) => setDays(event.target.value)}>
      ${[["1", "in a day"], ["7", "in 7 days"], ...DAYS.slice(1), ["", "never"]].map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}</select></label>
    <${ErrorBox} error=${error} what="The expiry was not changed" />
    <footer class="dialog-footer"><button class="primary" disabled=${busy}>Set the expiry</button>
      <button type="button" onClick=${onClose}>Cancel</button></footer></form><//>`;
}
