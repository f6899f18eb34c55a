// Requests to the operations API, and hooks that load and reload data.
import { useCallback, useEffect, useRef, useState } from "./vendor/htm-preact.js";

/** Path of the console with a slash at its end, and of the API before it: a proxy may add a prefix. */
export const CONSOLE = new URL("..", import.meta.url).pathname;
export const API = CONSOLE.replace(/console\/$/, "");

const TIMEOUT = 30_000; // milliseconds

/** A request that failed. `status` is 0 without a response; `problem` is the problem document, or null. */
export class ApiError extends Error {
  constructor(message, status, problem = null) {
    super(message);
    this.status = status;
    this.problem = problem;
  }
}

const unauthorizedListeners = new Set();
/** Call `listener` when a response says that a session is required; returns the function that ends that. */
export function onUnauthorized(listener) {
  unauthorizedListeners.add(listener);
  return () => unauthorizedListeners.delete(listener);
}

/** Send a request; returns the JSON of the response, or null for 204. Raises ApiError. */
export async function request(method, path, body, { isLogin = false } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-Runward-Console"] = "1";
  if (method === "POST") headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(API + path.replace(/^\//, ""), {
      method,
      headers,
      body: method === "POST" ? JSON.stringify(body ?? {}) : undefined,
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT),
    });
  } catch (error) {
    const isLate = error.name === "TimeoutError";
    throw new ApiError(isLate ? "The gateway did not respond within 30 s." : "The gateway cannot be reached.", 0);
  }
  if (response.status === 204) return null;
  const text = await response.text().catch(() => "");
  let document = null;
  try {
    document = JSON.parse(text);
  } catch {
    // reported below
  }
  if (!response.ok) {
    if (response.status === 401 && !isLogin) for (const listener of unauthorizedListeners) listener();
    const details = (document?.errors ?? []).map((each) => `${each.pointer} ${each.detail}`).join("; ");
    const message = [document?.detail ?? document?.title ?? `The gateway responded with ${response.status}.`, details];
    throw new ApiError(message.filter(Boolean).join(" "), response.status, document);
  }
  if (document === null) throw new ApiError("The response is not JSON.", response.status);
  return document;
}

export const get = (path) => request("GET", path);
export const post = (path, body) => request("POST", path, body);

/**
 * Load `path` now and, with `every` milliseconds (at least 1000), again while the tab is visible. Returns
 * { data, error, loading, reload }: after an error the last data stay, with the error.
 */
export function useData(path, { every = 0 } = {}) {
  const [state, setState] = useState({ path, data: null, error: null, loading: true });
  const current = useRef(path);
  current.current = path;
  const load = useCallback(async () => {
    if (path === null) return;
    try {
      const data = await get(path);
      if (current.current === path) setState({ path, data, error: null, loading: false });
    } catch (error) {
      if (current.current !== path) return;
      setState((old) => ({ path, data: old.path === path ? old.data : null, error, loading: false }));
    }
  }, [path]);
  useEffect(() => {
    let timer = 0;
    let stopped = false;
    const again = async () => {
      if (!document.hidden) await load();
      if (!stopped && every) timer = setTimeout(again, Math.max(1000, every));
    };
    setState((old) => (old.path === path ? old : { path, data: null, error: null, loading: true }));
    load().then(() => {
      if (!stopped && every) timer = setTimeout(again, Math.max(1000, every));
    });
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [path, every, load]);
  const own = state.path === path ? state : { data: null, error: null, loading: true };
  return { ...own, reload: load };
}

/** Value kept in the browser's storage under `name`; without storage it is kept in memory. */
export function useStored(name, initial) {
  const [value, setValue] = useState(() => {
    try {
      return JSON.parse(localStorage.getItem(name)) ?? initial;
    } catch {
      return initial;
    }
  });
  const store = useCallback(
    (changed) => {
      setValue(changed);
      try {
        localStorage.setItem(name, JSON.stringify(changed));
      } catch {
        // kept in memory
      }
    },
    [name],
  );
  return [value, store];
}
