// Pure functions: times, durations, numbers and states as text. Times are shown in UTC.

const pad = (number, width = 2) => String(number).padStart(width, "0");

/** "2026-11-21 12:00:00Z" for an RFC 3339 text or milliseconds since 1970; "–" if there is none. */
export function utc(value, { milliseconds = false } = {}) {
  const date = toDate(value);
  if (!date) return "–";
  const text = date.toISOString().replace("T", " ");
  return milliseconds ? text : text.slice(0, 19) + "Z";
}

/** "12:00:00" in UTC. */
export function utcTime(value, { milliseconds = false } = {}) {
  const date = toDate(value);
  return date ? date.toISOString().slice(11, milliseconds ? 23 : 19) : "–";
}

/** The time of the browser's zone with its offset, for titles. */
export function localTime(value) {
  const date = toDate(value);
  if (!date) return "";
  const minutes = -date.getTimezoneOffset();
  const offset = `${minutes < 0 ? "−" : "+"}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())} ${offset} (local)`;
}

function toDate(value) {
  if (value === null || value === undefined || value === "") return null;
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** "850 ms", "2.0 s", "3 min 5 s", "2 h 4 min", "3 d 2 h"; "–" for null. */
export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined || Number.isNaN(milliseconds)) return "–";
  if (milliseconds < 10) return `${Math.round(milliseconds * 10) / 10} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(milliseconds < 9950 ? 2 : 1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** Time since `value`, such as "5 min ago"; "in 3 s" for a later time. */
export function ago(value, now = Date.now()) {
  const date = toDate(value);
  if (!date) return "–";
  const seconds = Math.round((now - date.getTime()) / 1000);
  const text = coarse(Math.abs(seconds));
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

function coarse(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** Whole numbers with thin groups, others with at most `digits` decimals; "–" for null. */
export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** 0.1234 as "12.3 %". */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  return `${(share * 100).toFixed(share !== 0 && Math.abs(share) < 0.1 ? 1 : 0)} %`;
}

export const OUTCOMES = ["succeeded", "failed", "unknown", "not_run"];

const STATUS_WORDS = { not_run: "not run" };

/** Words for a status: "not run" for not_run. */
export function statusWord(status) {
  return STATUS_WORDS[status] ?? status;
}

/** What a run does, in words: "succeeded", "queued (limit)", "following (poll 7)", "starting (retrying)". */
export function stateWords(run) {
  const activity = run.activity;
  if (!activity) return statusWord(run.status);
  const facts = [];
  if (activity.waiting_for) facts.push(activity.waiting_for);
  if (activity.retrying && activity.waiting_for !== "backoff") facts.push("retrying");
  if (activity.state === "following" && activity.polls !== undefined) facts.push(`poll ${activity.polls}`);
  const state = activity.state ?? statusWord(run.status);
  return facts.length ? `${state} (${facts.join(", ")})` : state;
}

export const isEnded = (run) => Boolean(run.finished_at) || !["queued", "running"].includes(run.status);

/** Milliseconds that a run took, or has taken until `now`. */
export function runDuration(run, now = Date.now()) {
  if (run.duration_ms !== null && run.duration_ms !== undefined) return run.duration_ms;
  return isEnded(run) ? null : Math.max(0, now - Date.parse(run.created_at));
}

/** "run_7dfa4142…" */
export const shortId = (id) => (id.length > 13 ? `run_…${id.slice(-8)}` : id); // an id begins with its time

/** Quote a word for a POSIX shell. */
export const shellQuote = (word) =>
  /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** Shell command for a GET of the operations port; the key is a variable of the shell and is never shown. */
export function curlCommand(origin, path, { keyRequired = false } = {}) {
  const key = keyRequired ? ' -H "Authorization: Bearer $RUNWARD_OPS_KEY"' : "";
  return `curl -sS ${shellQuote(origin + path)}${key}`;
}

/** "client_limit" as "client limit". */
export const words = (name) => String(name).replaceAll("_", " ");

/** "1 run", "2 runs". */
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
