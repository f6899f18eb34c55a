// The console: session, navigation, keys, and the page of the URL.
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get, onUnauthorized, request, useData } from "./api.js";
import { go } from "./commands.js";
import { number } from "./format.js";
import { Attention } from "./page_attention.js";
import { Audit } from "./page_audit.js";
import { Palette } from "./palette.js";
import { Callbacks } from "./page_callbacks.js";
import { Configuration } from "./page_configuration.js";
import { Keys } from "./page_keys.js";
import { Clients, NotFound, Problems, Workflows } from "./page_lists.js";
import { Live } from "./page_live.js";
import { Login } from "./page_login.js";
import { Overview } from "./page_overview.js";
import { Providers } from "./page_providers.js";
import { Run } from "./page_run.js";
import { Runs } from "./page_runs.js";
import { Spend } from "./page_spend.js";
import { Start } from "./page_start.js";
import { Dialog, ErrorBox, Heading, Loading, takesText } from "./parts.js";
import { Link, navigate, useLocation } from "./router.js";
import { stream, useTick } from "./stream.js";

const PAGES = [
  ["/", "Overview", "o"],
  ["/attention", "Needs attention", "a"],
  ["/runs", "Runs", "r"],
  ["/live", "Live", "l"],
  ["/start", "Run something", "s"],
  ["/providers", "Providers", "p"],
  ["/clients", "Clients and limits", "c"],
  ["/keys", "Keys", "e"],
  ["/workflows", "Workflows", "w"],
  ["/spend", "Spend", "m"],
  ["/callbacks", "Callbacks", "b"],
  ["/audit", "Audit", "u"],
  ["/configuration", "Configuration", "f"],
];
const TEAM_PAGES = new Set(["/runs", "/clients", "/spend"]); // those that a viewer of a team may see
const pagesOf = (session) => (session.team ? PAGES.filter(([to]) => TEAM_PAGES.has(to)) : PAGES);
const keysOf = (pages) => [
  ["Ctrl K, ⌘ K", "commands: pages, look-ups of runs, actions"],
  ["/", "search for a run"],
  ["j, k", "next, previous row"],
  ["Enter", "open the row"],
  ["x", "select the row"],
  ...pages.map(([, title, key]) => [`g ${key}`, title]),
  ["r", "replay the run that is shown"],
  ["c", "cancel the run that is shown"],
  ["p", "pause or resume the live list"],
  ["t", "change the colours: system, light, dark"],
  ["?", "this help"],
];
const THEMES = ["system", "light", "dark"];

function Page({ path, search, session }) {
  const [, first, rest] = path.split("/");
  if (session.team && first === "") return html`<${Runs} search=${search} session=${session} />`;
  if (session.team && first !== "problems" && !TEAM_PAGES.has(`/${first}`)) return html`<${NotYours} team=${session.team} />`;
  switch (first) {
    case "":
      return html`<${Overview} search=${search} />`;
    case "attention":
      return html`<${Attention} />`;
    case "runs":
      return rest ? html`<${Run} key=${rest} id=${decode(rest)} session=${session} />` : html`<${Runs} search=${search} session=${session} />`;
    case "live":
      return html`<${Live} />`;
    case "start":
      return html`<${Start} key=${search} search=${search} session=${session} />`;
    case "providers":
      return html`<${Providers} session=${session} />`;
    case "clients":
      return html`<${Clients} />`;
    case "keys":
      return html`<${Keys} search=${search} session=${session} />`;
    case "configuration":
      return html`<${Configuration} />`;
    case "workflows":
      return html`<${Workflows} />`;
    case "spend":
      return html`<${Spend} search=${search} />`;
    case "callbacks":
      return html`<${Callbacks} search=${search} session=${session} />`;
    case "audit":
      return html`<${Audit} search=${search} />`;
    case "problems":
      return html`<${Problems} code=${rest && decode(rest)} />`;
    default:
      return html`<${NotFound} />`;
  }
}

function NotYours({ team }) {
  return html`<${Heading} title="Not for this key" /><p>Your key may read what belongs to the team ${team} only: <${Link} to="/runs">its runs<//>, <${Link} to="/clients">its clients<//> and <${Link} to="/spend">what it spent<//>.</p>`;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function useTheme() {
  const read = () => document.documentElement.dataset.theme ?? "system";
  const [theme, setTheme] = useState(read);
  const change = () => {
    const next = THEMES[(THEMES.indexOf(read()) + 1) % THEMES.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("runward.theme", next);
    } catch {
      // it applies to this tab
    }
    setTheme(next);
    window.dispatchEvent(new Event("runward-theme"));
  };
  return [theme, change];
}

/** Keys of every page: Ctrl-K or ⌘-K, also in fields; the second key of a sequence with g; and `handlers`. */
function useFrameKeys(pages, handlers, openPalette) {
  const current = useRef(null);
  current.current = { pages, handlers, openPalette };
  useLayoutEffect(() => {
    const listen = (event) => {
      if (document.querySelector("dialog[open]")) return;
      if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        current.current.openPalette();
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || takesText(event.target)) return;
      const page = go.pending() && current.current.pages.find(([, , key]) => key === event.key);
      if (page) {
        event.preventDefault();
        navigate(page[0]);
        setTimeout(go.end, 0); // the new page does not take this key for one of its own
        return;
      }
      go.end();
      const handler = current.current.handlers[event.key];
      if (handler) {
        event.preventDefault();
        handler();
      }
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, []);
}

function Help({ pages, onClose }) {
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="facts keys">${keysOf(pages).map(([key, text]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${text}</dd></div>`)}</dl>
  <//>`;
}

function Shell({ session, onLogout }) {
  const { path, search } = useLocation();
  const [help, setHelp] = useState(false);
  const [palette, setPalette] = useState(false);
  const [menu, setMenu] = useState(false);
  const [theme, changeTheme] = useTheme();
  const { tick, connected } = useTick();
  const pages = pagesOf(session);
  const attention = useData(session.team ? null : "/api/attention", { every: 15_000 });
  const main = useRef(null);
  const focusSearch = () => {
    if (path !== "/runs") navigate("/runs");
    setTimeout(() => document.querySelector("[data-search]")?.focus(), 50);
  };
  useFrameKeys(pages, { g: go.start, t: changeTheme, "?": () => setHelp(true), "/": focusSearch }, () => setPalette(true));
  useEffect(() => {
    stream.want(!session.team); // events are of all runs
    return () => stream.want(false);
  }, []);
  const seen = useRef(path);
  useEffect(() => {
    setMenu(false);
    if (seen.current !== path) {
      seen.current = path;
      window.scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
  }, [path]);
  const count = tick?.attention ?? (attention.error ? null : attention.data?.items.length) ?? null;
  const isCurrent = (to) => (to === "/" ? path === "/" : path === to || path.startsWith(`${to}/`));
  const logout = async () => {
    await request("DELETE", "/api/session").catch(() => null);
    onLogout();
  };
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="bar">
      <strong class="brand">Runward</strong>
      <button type="button" class="menu-button" aria-expanded=${menu ? "true" : "false"} aria-controls="nav" onClick=${() => setMenu(!menu)}>Menu</button>
      <nav id="nav" class=${menu ? "nav nav-open" : "nav"} aria-label="Pages">
        ${pages.map(([to, title]) => html`<${Link} key=${to} to=${to} aria-current=${isCurrent(to) ? "page" : null}>${title}
          ${to === "/attention" && count ? html` <span class="count">${number(count)}<span class="visually-hidden"> items</span></span>` : ""}<//>`)}
      </nav>
      <div class="bar-end">
        ${!session.team && html`<span class="muted connection"><span class=${`dot ${connected ? "dot-on" : "dot-off"}`} aria-hidden="true"></span>${connected ? "live" : "not connected"}</span>`}
        <span class="muted session-name">${session.name ? `${session.name}, ` : ""}${session.role}${session.team ? ` of team ${session.team}` : ""}</span>
        <div class="row"><button type="button" class="small" onClick=${changeTheme}>Colours: ${theme}</button>
          <button type="button" class="small" onClick=${() => setHelp(true)} aria-label="Keys">?</button>
          <button type="button" class="small palette-button" onClick=${() => setPalette(true)} title="Ctrl K, or ⌘ K">Commands</button></div>
        ${session.keys_required && html`<button type="button" class="small" onClick=${logout}>Log out</button>`}
        <span class="muted version">${session.version} · ${session.replica}</span>
      </div>
    </header>
    <main id="main" ref=${main} tabindex="-1"><${Page} path=${path} search=${search} session=${session} /></main>
    ${palette && html`<${Palette} pages=${pages} onClose=${() => setPalette(false)} commands=${[
      { title: "Search for a run", key: "/", run: focusSearch },
      { title: "Change the colours: system, light, dark", key: "t", run: changeTheme },
      { title: "Show the keys", key: "?", run: () => setHelp(true) },
      ...(session.keys_required ? [{ title: "Log out", run: logout }] : []),
    ]} />`}
    ${help && html`<${Help} pages=${pages} onClose=${() => setHelp(false)} />`}
  `;
}

function App() {
  const [state, setState] = useState({ session: null, error: null, login: false });
  const load = async () => {
    try {
      setState({ session: await get("/api/session"), error: null, login: false });
    } catch (error) {
      setState({ session: null, error: error.status === 401 ? null : error, login: error.status === 401 });
    }
  };
  useEffect(() => {
    load();
    return onUnauthorized(() => setState({ session: null, error: null, login: true }));
  }, []);
  if (state.login) return html`<${Login} onLogin=${load} />`;
  if (state.error) return html`<main class="login" id="main"><${ErrorBox} error=${state.error} retry=${load} what="The console could not be opened" /></main>`;
  if (!state.session) return html`<main id="main"><${Loading} /></main>`;
  return html`<${Shell} session=${state.session} onLogout=${load} />`;
}

render(html`<${App} />`, document.getElementById("app"));
