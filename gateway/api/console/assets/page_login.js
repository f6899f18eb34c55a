// Login with an operations key.
import { html, useState } from "./vendor/htm-preact.js";
import { request } from "./api.js";
import { ErrorBox, Heading } from "./parts.js";

export function Login({ onLogin }) {
  const [state, setState] = useState({ busy: false, error: null });
  const submit = async (event) => {
    event.preventDefault();
    const key = String(new FormData(event.target).get("key"));
    setState({ busy: true, error: null });
    try {
      await request("POST", "/api/session", { key }, { isLogin: true });
      onLogin();
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`<main class="login" id="main">
    <${Heading} title="Runward console" />
    <form class="panel" onSubmit=${submit}>
      <p>An operations key opens the console. It is sent once and not kept by the browser; the session lasts 12 hours.</p>
      <label class="field">Operations key<input type="password" name="key" required autocomplete="off" spellcheck="false" autofocus /></label>
      <${ErrorBox} error=${state.error} what="The console was not opened" />
      <button class="primary" disabled=${state.busy}>${state.busy ? "Opening…" : "Open the console"}</button>
    </form>
  </main>`;
}
