// The page and its state are in the URL.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { CONSOLE } from "./api.js";

const changed = new EventTarget();

/** The path below /console, such as "/runs", and the query with its question mark. */
export function location() {
  const path = window.location.pathname;
  const below = path.startsWith(CONSOLE) ? path.slice(CONSOLE.length - 1) : "/";
  return { path: below.replace(/\/+$/, "") || "/", search: window.location.search };
}

export const href = (path, search = "") => CONSOLE.slice(0, -1) + (path === "/" ? "" : path) + search;

/** Go to a page; `replace` leaves no entry in the history. */
export function navigate(path, search = "", { replace = false } = {}) {
  window.history[replace ? "replaceState" : "pushState"](null, "", href(path, search));
  changed.dispatchEvent(new Event("change"));
}

/** The current location; the component is rendered again when it changes. */
export function useLocation() {
  const [current, setCurrent] = useState(location);
  useEffect(() => {
    const update = () => setCurrent(location());
    changed.addEventListener("change", update);
    window.addEventListener("popstate", update);
    return () => {
      changed.removeEventListener("change", update);
      window.removeEventListener("popstate", update);
    };
  }, []);
  return current;
}

/** A link to a page of the console. */
export function Link({ to, search = "", children, ...attributes }) {
  const follow = (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    navigate(to, search);
  };
  return html`<a href=${href(to, search)} onClick=${follow} ...${attributes}>${children}</a>`;
}
