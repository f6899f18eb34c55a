// Overview: rates, outcomes, latencies, and facts of the gateway.
import { html, useState } from "./vendor/htm-preact.js";
import { useData } from "./api.js";
import { Chart } from "./chart.js";
import { ago, duration, number, percent } from "./format.js";
import { Heading, Loaded, Time } from "./parts.js";
import { Link, navigate } from "./router.js";
import { useTick } from "./stream.js";

const WINDOWS = ["5m", "15m", "1h", "6h"];
const DEFAULT_WINDOW = "15m";
const EVERY = 5000; // milliseconds

export function Overview({ search }) {
  const given = new URLSearchParams(search).get("window");
  const chosen = WINDOWS.includes(given) ? given : DEFAULT_WINDOW;
  const state = useData(`/api/overview?window=${chosen}`, { every: EVERY });
  const [range, setRange] = useState(null);
  return html`
    <${Heading} title="Overview">
      <div class="segments" role="group" aria-label="Time range">
        ${WINDOWS.map((each) => html`<button type="button" key=${each} aria-pressed=${each === chosen ? "true" : "false"}
          onClick=${() => navigate("/", each === DEFAULT_WINDOW ? "" : `?window=${each}`)}>${each}</button>`)}
      </div>
    <//>
    ${range && html`<${RangeLink} range=${range} onClear=${() => setRange(null)} />`}
    <${Loaded} state=${state} what="The figures could not be loaded">
      ${(data) => html`<${Figures} data=${data} /><${Charts} data=${data} onRange=${(from, until) => setRange([from, until])} /><${Facts} data=${data} />`}
    <//>
  `;
}

/** Query of the runs created in a range of seconds since 1970. */
export function rangeSearch([from, until]) {
  const text = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
  return `?${new URLSearchParams({ created_after: text(Math.floor(from)), created_before: text(Math.ceil(until)) })}`;
}

function RangeLink({ range, onClear }) {
  const [from, until] = range.map((seconds) => seconds * 1000);
  return html`<p class="notice row" role="status">
    <span><${Time} at=${from} short /> to <${Time} at=${until} short /> UTC</span>
    <${Link} to="/runs" search=${rangeSearch(range)}>Runs created in this range<//>
    <button type="button" class="small" onClick=${onClear}>Clear</button>
  </p>`;
}

function Figures({ data }) {
  const { totals } = data;
  const { tick } = useTick();
  const inFlight = tick?.in_flight ?? lastOf(data.series.in_flight);
  const share = totals.runs ? totals.succeeded / totals.runs : null;
  const figures = [
    ["Runs ended", number(totals.runs), `${number(totals.runs / data.window_seconds, 2)} a second`],
    ["Succeeded", percent(share), number(totals.succeeded)],
    ["Failed", number(totals.failed), "paid for, without a result", "failed"],
    ["Unknown", number(totals.unknown), "may have been paid for", "unknown"],
    ["Not run", number(totals.not_run), "nothing was started", "not_run"],
    ["Median", duration(totals.p50_ms), `95 %: ${duration(totals.p95_ms)} · 99 %: ${duration(totals.p99_ms)}`],
    ["In flight", number(inFlight), "requests now"],
  ];
  return html`<dl class="figures">
    ${figures.map(([title, value, detail, kind]) => html`<div key=${title} class=${kind && totals[kind] ? `figure figure-${kind}` : "figure"}>
      <dt>${title}</dt><dd class="figure-value">${value}</dd><dd class="muted">${detail}</dd></div>`)}
  </dl>`;
}

const lastOf = (values) => (values && values.length ? values[values.length - 1] : null);

function Charts({ data, onRange }) {
  const { series } = data;
  const end = Date.parse(data.at) / 1000;
  const common = { at: series.at, onRange, span: [end - data.window_seconds, end] };
  const milliseconds = (value) => duration(value);
  const rate = (values) => values.map((value) => (value === null ? null : value / data.step_seconds));
  const outcomes = [["succeeded", "Succeeded"], ["failed", "Failed"], ["unknown", "Unknown"], ["not_run", "Not run"]];
  return html`
    <div class="charts">
      <${Chart} ...${common} title="Ended runs a second, by outcome" stacked format=${(value) => number(value, 2)}
        series=${outcomes.map(([name, title]) => ({ title, colour: name, values: rate(series[name]) }))} />
      <${Chart} ...${common} title="Time from request to end" format=${milliseconds} series=${[
        { title: "50 %", colour: "line-1", values: series.p50_ms },
        { title: "95 %", colour: "line-2", values: series.p95_ms, dash: [6, 3] },
        { title: "99 %", colour: "line-3", values: series.p99_ms, dash: [2, 3] },
      ]} />
      <${Chart} ...${common} title="Overhead of the gateway" format=${milliseconds} series=${[
        { title: "95 %", colour: "line-1", values: series.overhead_p95_ms },
      ]} />
      <${Chart} ...${common} title="Requests in flight" format=${(value) => number(value, 1)} series=${[
        { title: "In flight", colour: "line-1", values: series.in_flight },
      ]} />
    </div>
    <p class="muted">Mark a range in a chart to see the runs that were created in it.</p>
  `;
}

function Facts({ data }) {
  const { store, gateway } = data;
  const storeText = !store.available ? "not available: durable runs are refused" : store.durable ? "available, durable" : "available, not durable: runs are lost with the process";
  const reload = gateway.last_reload_at
    ? html`<${Time} at=${gateway.last_reload_at} /> ${gateway.last_reload_ok ? "applied" : html`<strong class="text-failed">rejected</strong>`}`
    : "not since the start";
  const facts = [
    ["Store", html`<span class=${store.available && store.durable ? "" : "text-unknown"}>${storeText}</span>`],
    ["Version", gateway.version],
    ["Started", html`<${Time} at=${gateway.started_at} /> <span class="muted">${ago(gateway.started_at)}</span>`],
    ["Last reload", reload],
    ["Workers", number(gateway.workers)],
    ["State", gateway.draining ? html`<strong class="text-unknown">shutting down</strong>` : "accepts runs"],
    ["Updated", html`<${Time} at=${data.at} />`],
  ];
  return html`<section class="panel" aria-label="Gateway"><h2>Gateway</h2>
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></section>`;
}
