// Pure functions: the events of a run, laid out to scale.

export const LANES = ["Waits", "Calls", "Polls", "Events", "Callbacks"];

/**
 * Lay the events of a run out. Returns { total, marks, ticks, clipped }: `total` is in milliseconds; each mark has its
 * lane, kind, `left` and `width` as shares of the axis, and its text (`folded`: several polls); `clipped`: callbacks after the end of the axis.
 */
export function layOut(run, now = Date.now()) {
  const events = run.timeline ?? [];
  const begin = Date.parse(run.created_at);
  const end = run.finished_at ? Date.parse(run.finished_at) : now;
  const own = events.filter((event) => event.event !== "callback_attempted").map(endOf);
  const last = Math.max(begin + 1, end, ...own);
  const callbacks = events.filter((event) => event.event === "callback_attempted").map(endOf);
  const latest = Math.max(last, ...callbacks);
  const clipped = latest - begin > 4 * (last - begin);
  const total = (clipped ? last : latest) - begin;
  const share = (at) => Math.min(1, Math.max(0, (at - begin) / total));
  const marks = events.map((event, index) => {
    const at = Date.parse(event.at);
    const until = spanEnd(event, events[index + 1], last);
    const left = share(at);
    return { ...describe(event), event, folded: event.count > 1, left, width: Math.max(0, share(until) - left), offset: at - begin };
  });
  return { total, marks, ticks: ticks(total), clipped };
}

const endOf = (event) => Date.parse(event.at) + (event.seconds ?? 0) * (event.count ? 0 : 1000);

// Polls that are counted in one event last until the next event.
function spanEnd(event, following, last) {
  if (event.event === "called" && event.count > 1) return following ? Date.parse(following.at) : last;
  return Date.parse(event.at) + (event.seconds ?? 0) * 1000;
}

/** Lane, kind (for its colour) and text of an event. */
export function describe(event) {
  const seconds = event.seconds === undefined ? "" : `, ${event.seconds} s`;
  switch (event.event) {
    case "waited":
      return { lane: 0, kind: "wait", text: `waited for ${event.for}${seconds}` };
    case "called": {
      const isStart = event.operation === "start";
      const failed = event.cause !== undefined || event.status >= 400;
      const times = event.count > 1 ? ` ${event.count} times` : "";
      const result = [event.status, event.cause].filter((each) => each !== undefined).join(" ");
      const sent = event.sent && event.sent !== "yes" ? `, sent: ${event.sent}` : "";
      const text = `${event.operation}${times}: ${result || "no response"}${sent}${seconds}`;
      return { lane: isStart || event.operation === "cancel" ? 1 : 2, kind: failed ? "bad" : "call", text };
    }
    case "hinted":
      return { lane: 3, kind: "event", text: "the provider sent a notification" };
    case "fell_back":
      return { lane: 3, kind: "event", text: `fell back to ${event.workflow} at ${event.provider}` };
    case "adopted":
      return { lane: 3, kind: "event", text: `adopted by ${event.owner ?? "another replica"}` };
    case "deadline_passed":
      return { lane: 3, kind: "bad", text: "the client's deadline passed; the run is polled on" };
    case "cancel_requested":
      return { lane: 3, kind: "event", text: `${event.by === "operator" ? ["an operator", event.actor].filter(Boolean).join(", ") : "the client"} asked to cancel` };
    case "ended":
      return { lane: 3, kind: event.status, text: `ended: ${event.status}${event.code ? ` (${event.code})` : ""}` };
    case "callback_attempted":
      return {
        lane: 4,
        kind: event.result === "delivered" || /^2/.test(String(event.result)) ? "call" : "bad",
        text: `callback, attempt ${event.attempt}: ${event.result}${seconds}`,
      };
    default:
      return { lane: 3, kind: "event", text: event.event };
  }
}

/** Up to six round times on an axis of `total` milliseconds, as { share, milliseconds }. */
export function ticks(total) {
  const rough = total / 5;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 0.001)));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough) ?? rough;
  const found = [];
  for (let at = 0; at <= total && found.length < 7; at += step) found.push({ share: at / total, milliseconds: at });
  return found;
}
