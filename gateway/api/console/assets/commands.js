// Commands of the present page for the palette, and the first key of a sequence such as "g r".
import { useLayoutEffect, useRef } from "./vendor/htm-preact.js";

const GO_TIMEOUT = 1500; // milliseconds between g and the second key
const registered = new Set();
let goUntil = 0;

/** Offer commands while the component is shown: { title, run, key, reason }. One with a `reason` cannot be carried out now. */
export function useCommands(commands) {
  const current = useRef(commands);
  current.current = commands;
  useLayoutEffect(() => {
    registered.add(current);
    return () => registered.delete(current);
  }, []);
}

/** The commands that components offer now. */
export const offered = () => [...registered].flatMap((each) => each.current);

/** The state of a sequence that begins with g: pages leave keys alone while it is `pending`. */
export const go = {
  start: () => {
    goUntil = Date.now() + GO_TIMEOUT;
  },
  pending: () => Date.now() < goUntil,
  end: () => {
    goUntil = 0;
  },
};
