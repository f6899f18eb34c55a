// One stream of events for the whole tab; it is closed while the tab is hidden.
import { useEffect, useState } from "./vendor/htm-preact.js";
import { API } from "./api.js";

const RETRY = 5000; // milliseconds

/** Dispatches `tick` and `runs` with the event's data, and `state` with { connected, gap }. */
class Stream extends EventTarget {
  #source = null;
  #timer = 0;
  #wanted = false;
  #lostAt = null;
  connected = false;
  tick = null;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#adjust());
  }

  /** Open the stream, or close it. */
  want(wanted) {
    this.#wanted = wanted;
    this.#adjust();
  }

  #adjust() {
    const open = this.#wanted && !document.hidden;
    if (open && !this.#source) this.#open();
    if (!open && this.#source) this.#close();
    if (!open) clearTimeout(this.#timer);
  }

  #open() {
    clearTimeout(this.#timer);
    const source = new EventSource(`${API}api/stream`);
    this.#source = source;
    source.addEventListener("open", () => this.#setConnected(true));
    source.addEventListener("tick", (event) => {
      this.tick = parse(event.data);
      this.#emit("tick", this.tick);
    });
    source.addEventListener("runs", (event) => this.#emit("runs", parse(event.data)));
    source.addEventListener("error", () => {
      this.#setConnected(false);
      if (source.readyState === EventSource.CLOSED && this.#source === source) {
        this.#close();
        this.#timer = setTimeout(() => this.#adjust(), RETRY);
      }
    });
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    this.#setConnected(false);
  }

  #setConnected(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    const gap = connected && this.#lostAt !== null ? Date.now() - this.#lostAt : null;
    this.#lostAt = connected ? null : Date.now();
    this.#emit("state", { connected, gap });
  }

  #emit(name, detail) {
    if (detail !== null) this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export const stream = new Stream();

/** The last tick, or null, and whether the stream is connected. */
export function useTick() {
  const [tick, setTick] = useState(stream.tick);
  const [connected, setConnected] = useState(stream.connected);
  useEffect(() => {
    const onTick = (event) => setTick(event.detail);
    const onState = (event) => setConnected(event.detail.connected);
    stream.addEventListener("tick", onTick);
    stream.addEventListener("state", onState);
    setConnected(stream.connected);
    return () => {
      stream.removeEventListener("tick", onTick);
      stream.removeEventListener("state", onState);
    };
  }, []);
  return { tick, connected };
}
