// Log-in with an operations key, or through an OpenID Connect provider.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get, request } from "./api.js";
import { ErrorBox, Heading } from "./parts.js";

const REFUSALS = {
  failed: "The log-in was not completed: it was cancelled, took more than 10 minutes, or its answer was not valid. Try again.",
  no_role: "Your account has no role in this console. An operator can give it one where accounts are managed.",
  unavailable: "The provider could not be used. Try again, or log in with an operations key.",
};

export function Login({ onLogin }) {
  const [ways, setWays] = useState({ keys: true, issuer: null, start: null });
  useEffect(() => {
    get("/api/login").then(setWays, () => null); // then the form for a key is all there is
  }, []);
  const refusal = REFUSALS[new URLSearchParams(window.location.search).get("login")];
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
    ${refusal && html`<${ErrorBox} error=${new Error(refusal)} what="You are not logged in" />`}
    ${ways.start && html`<div class="panel">
      <p><a class="button primary" href=${ways.start}>Log in with ${ways.issuer}</a></p>
    </div>`}
    ${ways.keys && html`<form class="panel" onSubmit=${submit}>
      <p>An operations key opens the console. It is sent once and not kept by the browser; the session lasts 12 hours.</p>
      <label class="field">Operations key<input type="password" name="key" required autocomplete="off" spellcheck="false" autofocus /></label>
      <${ErrorBox} error=${state.error} what="The console was not opened" />
      <button class="primary" disabled=${state.busy}>${state.busy ? "Opening…" : "Open the console"}</button>
    </form>`}
  </main>`;
}
