// Pure functions: the query of the page Spend, and the series of its chart.

/** Ranges in days, and what the page may group by. */
export const RANGES = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "A year"]];
export const GROUPS = ["client", "team", "key", "workflow", "provider", "api", "outcome", "tag"];
/** What can be combined with tags. */
export const WITH_TAG = ["client", "team", "outcome", "tag"];
/** Conditions in the order of the menu. */
export const SELECTABLE = ["client", "team", "key", "workflow", "provider", "api", "tag"];
const MAX_SERIES = 5; // with a colour of their own; all others are one
export const OTHERS = "all others";
export const MAYBE = "may have been paid";

/** What a query string asks for: { days, by, conditions }, with defaults for what has no meaning. */
export function readQuery(search) {
  const query = new URLSearchParams(search);
  const days = RANGES.some(([each]) => each === query.get("days")) ? query.get("days") : "30";
  const by = GROUPS.includes(query.get("by")) ? query.get("by") : "client";
  const conditions = [...query].filter(([name]) => SELECTABLE.includes(name));
  return { days, by, conditions };
}

/** The query string of the page. */
export function writeQuery({ days, by, conditions }) {
  const pairs = [...(days === "30" ? [] : [["days", days]]), ...(by === "client" ? [] : [["by", by]]), ...conditions];
  const text = new URLSearchParams(pairs).toString();
  return text ? `?${text}` : "";
}

/** Days as "2026-11-27" that end on the day of `now` (milliseconds), in UTC. */
export function daysUntil(now, count) {
  return Array.from({ length: count }, (_, index) => new Date(now - (count - 1 - index) * 86_400_000).toISOString().slice(0, 10));
}

/** Parameters of GET /api/usage for these groups. */
export function usageQuery({ conditions }, from, to, groups, extra = []) {
  return new URLSearchParams([["from", from], ["to", to], ["group_by", groups.join(",")], ...conditions, ...extra]).toString();
}

/** Why a group cannot be combined with the conditions; "" if it can. */
export function conflict(by, conditions) {
  const used = [by, ...conditions.map(([name]) => name)];
  return used.includes("tag") && used.some((name) => !WITH_TAG.includes(name)) ? "Not with a tag." : "";
}

/**
 * Series of the chart: [{ title, values }] over `days`, of the groups that cost the most, then all others, then what may
 * have been paid, each if it is not 0 throughout. `rows`: of a report by day and `by`.
 */
export function seriesOf(rows, by, days) {
  const place = new Map(days.map((day, index) => [day, index]));
  const groups = new Map();
  const maybe = days.map(() => 0);
  for (const row of rows) {
    const index = place.get(row.day);
    if (index === undefined) continue;
    if (!groups.has(row[by])) groups.set(row[by], days.map(() => 0));
    groups.get(row[by])[index] += Number(row.spent);
    maybe[index] += Number(row.unknown);
  }
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const sorted = [...groups].map(([title, values]) => ({ title: nameOf(title), values })).filter(({ values }) => sum(values) > 0)
    .sort((one, other) => sum(other.values) - sum(one.values));
  const shown = sorted.slice(0, MAX_SERIES);
  const rest = sorted.slice(MAX_SERIES);
  if (rest.length) shown.push({ title: OTHERS, values: days.map((_, index) => sum(rest.map(({ values }) => values[index]))) });
  if (sum(maybe) > 0) shown.push({ title: MAYBE, values: maybe, maybe: true });
  return shown;
}

/** "none" for a run without a team or key. */
export const nameOf = (value) => (value === "" ? "none" : String(value));

/** An amount for people: groups of digits, and no more decimals than it has. `text`: of the API, or a number. */
export function amount(text) {
  const [whole, decimals = ""] = (typeof text === "number" ? String(Number(text.toFixed(6))) : text).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return decimals ? `${grouped}.${decimals.padEnd(2, "0")}` : grouped;
}

/** A round number at or above the largest sum of a day, for the axis; 1 if all are 0. */
export function axisTop(series) {
  const largest = Math.max(0, ...(series[0]?.values ?? []).map((_, index) => series.reduce((sum, { values }) => sum + values[index], 0)));
  if (largest <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 5, 10].map((step) => step * power).find((value) => value >= largest * 0.999999);
}
