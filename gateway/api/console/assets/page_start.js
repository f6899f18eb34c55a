// Run something: a run on behalf of a client, after a confirmation.
import { html, useState } from "./vendor/htm-preact.js";
import { API, post, useData } from "./api.js";
import { useSubmit } from "./changes.js";
import { Action, Copy, Dialog, Empty, ErrorBox, Heading, Loaded } from "./parts.js";
import { navigate } from "./router.js";
import { clientCommand, newKey, operatorCommand, permitted, startBody } from "./start_request.js";

const freshKey = () => newKey(crypto.getRandomValues(new Uint8Array(12)));

export function Start({ search, session }) {
  const clients = useData("/api/clients");
  const workflows = useData("/api/workflows");
  const query = new URLSearchParams(search);
  return html`<${Heading} title="Run something" />
    <p class="muted">A run on behalf of a client, through the same limits, quotas and idempotency keys as its own. It is durable and in the background.</p>
    <${Loaded} state=${clients} what="The clients could not be loaded">
      ${(found) => html`<${Loaded} state=${workflows} what="The workflows could not be loaded">
        ${(known) => (found.clients.length === 0 || known.workflows.length === 0
          ? html`<${Empty}>${found.clients.length === 0 ? "No client is configured: a run needs one." : "No workflow is configured: there is nothing to run."}<//>`
          : html`<${Form} clients=${found.clients} workflows=${known.workflows} query=${query} session=${session} />`)}<//>`}
    <//>`;
}

function Form({ clients, workflows, query, session }) {
  const aliases = workflows.map((each) => each.workflow);
  const [form, setForm] = useState(() => {
    const client = clients.find((each) => each.client === query.get("client")) ?? clients[0];
    const workflow = query.get("workflow") ?? permitted(aliases, client.workflows)[0] ?? "";
    return { client: client.client, workflow, input: "{}", metadata: "", tags: "", label: "", version: "", timeout: "", key: freshKey() };
  });
  const [confirmed, setConfirmed] = useState(null);
  const [problem, setProblem] = useState("");
  const set = (name) => (event) => {
    setForm({ ...form, [name]: event.target.value });
    setProblem("");
  };
  const may = permitted(aliases, clients.find((each) => each.client === form.client)?.workflows ?? []);
  const request = startBody(form);
  const ask = (event) => {
    event?.preventDefault();
    setProblem(request.error ?? "");
    if (request.body) setConfirmed(request.body);
  };
  const chosen = workflows.find((each) => each.workflow === form.workflow.trim());
  const invalid = problem ? "true" : null;
  return html`<form class="panel start" onSubmit=${ask} aria-label="Run">
    <div class="fields">
      <label class="field">Client<select value=${form.client} onChange=${set("client")}>
        ${clients.map((each) => html`<option key=${each.client} value=${each.client}>${each.client}</option>`)}</select></label>
      <label class="field">Workflow<input list="start-workflows" required value=${form.workflow} onInput=${set("workflow")} autocomplete="off" spellcheck="false" />
        <datalist id="start-workflows">${may.map((alias) => html`<option key=${alias} value=${alias}></option>`)}</datalist></label>
      <label class="field">Idempotency key<input required maxlength="255" class="mono" value=${form.key} onInput=${set("key")} autocomplete="off" spellcheck="false" /></label>
    </div>
    <p class="muted">${chosen ? html`${form.workflow.trim()} runs at ${chosen.provider}.` : "The gateway has no schema of inputs; an input that the provider refuses ends as not run."}
      ${chosen && !may.includes(chosen.workflow) ? html` <span class="text-unknown">The client may not run it: the request would be refused.</span>` : ""}</p>
    <label class="field">Input, a JSON object<textarea rows="8" class="mono" spellcheck="false" value=${form.input} onInput=${set("input")}
      aria-invalid=${invalid} aria-describedby=${problem ? "start-problem" : null}></textarea></label>
    <details><summary>Label, version, time-out, tags, metadata</summary>
      <div class="fields">
        <label class="field">Label<input value=${form.label} onInput=${set("label")} autocomplete="off" /></label>
        <label class="field">Version<input inputmode="numeric" value=${form.version} onInput=${set("version")} autocomplete="off" /></label>
        <label class="field">Time-out in seconds<input inputmode="decimal" value=${form.timeout} onInput=${set("timeout")} autocomplete="off" /></label>
        <label class="field">Tags, with commas<input value=${form.tags} onInput=${set("tags")} autocomplete="off" /></label>
      </div>
      <label class="field">Metadata, a JSON object of texts<textarea rows="2" class="mono" spellcheck="false" value=${form.metadata} onInput=${set("metadata")}></textarea></label>
    </details>
    ${problem && html`<p class="error-box" role="alert" id="start-problem">${problem}</p>`}
    <div class="row">
      <${Action} session=${session} kind="primary" onClick=${ask}>Start the run…<//>
      <button type="button" onClick=${() => setForm({ ...form, key: freshKey() })}>New key</button>
    </div>
    ${request.body && html`<${Commands} body=${request.body} session=${session} />`}
    ${confirmed && html`<${Confirm} body=${confirmed} provider=${chosen?.provider} onClose=${() => setConfirmed(null)} />`}
  </form>`;
}

function Commands({ body, session }) {
  const operator = operatorCommand(window.location.origin + API.slice(0, -1), body, { keyRequired: session.keys_required });
  const commands = [["For an operator", operator], ["For the client", clientCommand(body)]];
  return html`<h2>The same request in a shell</h2>
    <dl class="commands">${commands.map(([name, command]) => html`<div key=${name}>
      <dt>${name} <${Copy} text=${command} label="Copy" title=${`Copy the command: ${name.toLowerCase()}`} /></dt><dd><code>${command}</code></dd></div>`)}</dl>`;
}

function Confirm({ body, provider, onClose }) {
  const [busy, error, submit] = useSubmit(async () => {
    const started = await post("/api/run", body);
    navigate(`/runs/${started.id}`);
  });
  return html`<${Dialog} title="Start this run" onClose=${onClose}>
    <p class="warning-box" role="note">This starts ${body.run.workflow}${provider ? ` at ${provider}` : ""}, and may cost money. It counts against the limits and
      quotas of ${body.client}, which can look it up.</p>
    <p class="muted">The key <span class="mono wrap">${body.idempotency_key}</span> keeps a repetition from starting it twice.</p>
    <${ErrorBox} error=${error} what="The run was not started" />
    <footer class="dialog-footer"><button type="button" class="primary" disabled=${busy} onClick=${submit}>${busy ? "Starting…" : "Start it, and pay for it"}</button>
      <button type="button" onClick=${onClose}>Cancel</button></footer>
  <//>`;
}
