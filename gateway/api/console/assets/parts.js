// Parts that several pages use.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { go } from "./commands.js";
import { Link } from "./router.js";
import { duration, isEnded, localTime, runDuration, shortId, stateWords, utc, utcTime } from "./format.js";

/** A time in UTC with the local time as its title. */
export function Time({ at, short = false, milliseconds = false }) {
  if (!at) return html`<span class="muted">–</span>`;
  const text = short ? utcTime(at, { milliseconds }) : utc(at, { milliseconds });
  return html`<time dateTime=${new Date(at).toISOString()} title=${localTime(at)}>${text}</time>`;
}

/** Status of a run in words, with the colour of its outcome. */
export function Status({ run }) {
  const kind = isEnded(run) ? run.status : "active";
  return html`<span class=${`status status-${kind}`}><span class="dot" aria-hidden="true"></span>${stateWords(run)}</span>`;
}

/** Text that a click copies. */
export function Copy({ text, label = "Copy", title }) {
  const [state, setState] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("Copied");
    } catch {
      setState("Not permitted by the browser");
    }
    setTimeout(() => setState(""), 2000);
  };
  return html`<button type="button" class="small" onClick=${copy} title=${title ?? text}>
    <span aria-live="polite">${state || label}</span>
  </button>`;
}

/** An error, never shown as an empty result. */
export function ErrorBox({ error, retry, what = "This could not be loaded" }) {
  if (!error) return null;
  const code = error.problem?.code;
  return html`<div class="error-box" role="alert">
    <p><strong>${what}.</strong> ${error.message}</p>
    <p class="row">
      ${code && html`<${Code} code=${code} />`}
      ${error.problem?.request_id && html`<span class="muted">Request ${error.problem.request_id}</span>`}
      ${retry && html`<button type="button" class="small" onClick=${retry}>Try again</button>`}
    </p>
  </div>`;
}

/** A problem code with a link to its documentation. */
export const Code = ({ code }) => html`<${Link} to=${`/problems/${code}`}><code>${code}</code><//>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;
export const Loading = () => html`<p class="empty" role="status">Loading…</p>`;

/** What `useData` has loaded: an error, the loading state, or `children(data)`, and both after a failed reload. */
export function Loaded({ state, children, what }) {
  const { data, error, loading, reload } = state;
  return html`
    <${ErrorBox} error=${error} retry=${reload} what=${data ? "The last update failed; older data are shown" : what} />
    ${data ? children(data) : loading && !error ? html`<${Loading} />` : null}
  `;
}

/** A table in a region that scrolls by itself on narrow screens. `columns`: { name, title, right, cell(row) }; `kind`: a class. */
export function Table({ label, columns, rows, rowKey, rowProps, kind = "" }) {
  return html`<div class=${`table-region ${kind}`} role="region" aria-label=${label} tabindex="0">
    <table>
      <thead>
        <tr>
          ${columns.map((column) => html`<th scope="col" key=${column.name} class=${column.right ? "right" : ""}>
            ${column.header ?? column.title}
          </th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map((row, index) => html`<tr key=${rowKey(row, index)} ...${rowProps ? rowProps(row, index) : {}}>
          ${columns.map((column) => html`<td key=${column.name} class=${column.right ? "right" : ""}>${column.cell(row)}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}

/** A modal dialog; Escape and the button close it. */
export function Dialog({ title, onClose, children }) {
  const element = useRef(null);
  useLayoutEffect(() => { // at once, so that no key reaches the page behind it
    const dialog = element.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onCancel=${(event) => {
    event.preventDefault();
    onClose();
  }}>
    <header class="dialog-header">
      <h2 id="dialog-title">${title}</h2>
      <button type="button" class="small" onClick=${onClose} aria-label="Close">✕</button>
    </header>
    ${children}
  </dialog>`;
}

export const VIEWER_REASON = "You have the role viewer: you cannot change anything.";

/** A button for a change: disabled for viewers, with the reason. */
export function Action({ session, reason = "", onClick, children, kind = "", ...attributes }) {
  const why = session.role === "viewer" ? VIEWER_REASON : reason;
  return html`<button type="button" class=${kind} aria-disabled=${why ? "true" : null} title=${why || null}
    onClick=${why ? null : onClick} ...${attributes}>
    ${children}${why && html`<span class="visually-hidden"> (${why})</span>`}
  </button>`;
}

/** A page's heading with what stands beside it. */
export function Heading({ title, children }) {
  useEffect(() => {
    document.title = `${title} · Runward`;
  }, [title]);
  return html`<div class="heading"><h1>${title}</h1><div class="row">${children}</div></div>`;
}

export const RunLink = ({ id, ...attributes }) =>
  html`<${Link} to=${`/runs/${id}`} title=${id} class="mono" ...${attributes}>${shortId(id)}<//>`;

/** Columns of lists of runs, by name. */
export const RUN_COLUMNS = [
  { name: "created_at", title: "Created (UTC)", cell: (run) => html`<${Time} at=${run.created_at} />` },
  { name: "id", title: "Run", cell: (run) => html`<${RunLink} id=${run.id} />` },
  { name: "status", title: "Status", cell: (run) => html`<${Status} run=${run} />` },
  { name: "workflow", title: "Workflow", cell: (run) => run.workflow },
  { name: "client", title: "Client", cell: (run) => run.client },
  { name: "provider", title: "Provider", cell: (run) => run.provider ?? "–" },
  { name: "duration", title: "Duration", right: true, cell: (run) => duration(runDuration(run)) },
  { name: "attempts", title: "Attempts", right: true, cell: (run) => run.attempts ?? "–" },
  { name: "code", title: "Problem", cell: (run) => (run.error ? html`<${Code} code=${run.error.code} />` : "") },
  { name: "provider_run_id", title: "Provider's run id", cell: (run) => run.provider_run_id ?? "–" },
  { name: "api", title: "API", cell: (run) => run.api ?? "–" },
  { name: "callback", title: "Callback", cell: (run) => run.callback?.state ?? "–" },
  { name: "judgement", title: "Judgement", cell: (run) => run.judgement?.verdict?.replaceAll("_", " ") ?? "–" },
];
export const DEFAULT_COLUMNS = ["created_at", "id", "status", "workflow", "client", "provider", "duration", "code"];

/** True while an element takes text, so that keys are no commands. */
export function takesText(element) {
  return Boolean(element?.closest?.("input:not([type=checkbox]):not([type=radio]), select, textarea, dialog[open], [contenteditable]"));
}

/** Call `handlers[key]` for keys without modifiers outside of fields, but for the second key of a sequence with g. */
export function useKeys(handlers) {
  const current = useRef(handlers);
  current.current = handlers;
  useLayoutEffect(() => { // before the page is painted, so that no key is lost
    const listen = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || go.pending() || takesText(event.target)) return;
      const handler = current.current[event.key];
      if (handler && handler(event) !== false) event.preventDefault();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, []);
}

/** Keys j, k and Enter for the rows of a list that have `data-row`: they move the focus and follow the first link. */
export function useRowKeys(extra = {}) {
  const move = (step) => {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const index = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[index < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, index + step))];
    (next.querySelector("a") ?? next).focus();
    next.scrollIntoView({ block: "nearest" });
  };
  useKeys({ j: () => move(1), k: () => move(-1), ...extra });
}
