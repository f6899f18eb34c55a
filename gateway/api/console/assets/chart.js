// Charts over time, drawn by uPlot, each with a table of the same values.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import uPlot from "./vendor/uPlot.js";
import { utcTime } from "./format.js";

const MAX_ROWS = 60; // of the table, newest first

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const utcDate = (seconds) => {
  // uPlot formats with local fields, so the date is moved by the zone's offset.
  const date = new Date(seconds * 1000);
  return new Date(date.getTime() + date.getTimezoneOffset() * 60_000);
};

/** Sums from the first series on, so that areas lie on each other; null counts as 0. */
export function stack(columns) {
  const sums = columns[0] ? columns[0].map(() => 0) : [];
  return columns.map((column) => column.map((value, index) => (sums[index] += value ?? 0)));
}

function options(element, { series, stacked, onRange, format, span }) {
  const axis = { stroke: colour("muted"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const lines = series.map((each) => ({
    label: each.title,
    stroke: colour(each.colour),
    width: stacked ? 1 : 1.5,
    dash: each.dash,
    fill: stacked ? colour(`${each.colour}-area`) : undefined,
    points: { show: false },
    spanGaps: false,
  }));
  return {
    width: element.clientWidth || 320,
    height: 160,
    tzDate: utcDate,
    legend: { show: false },
    padding: [8, 8, 0, 0],
    cursor: { y: false, drag: { x: Boolean(onRange), y: false, setScale: false }, points: { size: 5 } },
    select: { show: true },
    scales: { x: { time: true, range: (_, low, high) => span.current ?? [low, high] }, y: { range: (_, low, high) => [0, high * 1.1 || 1] } },
    axes: [
      { ...axis, size: 26, space: 72, values: (_, splits, index, space, step) => splits.map((at) => utcTime(at * 1000).slice(0, step < 60 ? 8 : 5)) },
      { ...axis, size: 56, values: (_, splits) => splits.map((value) => format(value)) },
    ],
    series: [{}, ...(stacked ? lines.reverse() : lines)],
    hooks: {
      setSelect: [
        (plot) => {
          if (onRange && plot.select.width > 4) {
            onRange(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x"));
          }
        },
      ],
    },
  };
}

/**
 * A chart of `series` ({ title, colour, values, dash }) over `at` (seconds since 1970). `stacked`: areas on each other;
 * `format(value)`: text of a value; `onRange(from, until)`: called with a range that was marked with the pointer;
 * `span`: begin and end of the axis.
 */
export function Chart({ title, at, series, stacked = false, format, onRange, span }) {
  const [asTable, setAsTable] = useState(false);
  const place = useRef(null);
  const plot = useRef(null);
  const [cursor, setCursor] = useState(null);
  const [scheme, setScheme] = useState(0);
  const range = useRef(onRange);
  range.current = onRange;
  const axisSpan = useRef(span);
  axisSpan.current = span;
  useEffect(() => {
    const repaint = () => setScheme((count) => count + 1);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", repaint);
    window.addEventListener("runward-theme", repaint);
    return () => {
      media.removeEventListener("change", repaint);
      window.removeEventListener("runward-theme", repaint);
    };
  }, []);
  useEffect(() => {
    if (asTable || !place.current) return undefined;
    const element = place.current;
    const forward = onRange && ((from, until) => range.current?.(from, until));
    const made = options(element, { series, stacked, onRange: forward, format, span: axisSpan });
    made.hooks.setCursor = [(chart) => setCursor(chart.cursor.idx ?? null)];
    plot.current = new uPlot(made, [[], ...series.map(() => [])], element);
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: 160 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [asTable, scheme, series.length]);
  useEffect(() => {
    const columns = series.map((each) => each.values);
    plot.current?.setData([at, ...(stacked ? stack(columns).reverse() : columns)]);
  });
  const shown = cursor !== null && cursor < at.length ? cursor : at.length - 1;
  const value = (each) => (at.length ? format(each.values[shown]) : "–");
  return html`<section class="panel chart" aria-label=${title}>
    <header class="panel-header">
      <h2>${title} <span class="muted">${at.length ? `${utcTime(at[shown] * 1000)}Z` : "no samples yet"}</span></h2>
      <button type="button" class="small" aria-pressed=${asTable ? "true" : "false"} onClick=${() => setAsTable(!asTable)}>
        Table<span class="visually-hidden"> of ${title}</span>
      </button>
    </header>
    <ul class="legend">
      ${series.map((each) => html`<li key=${each.title}>
        <span class=${`swatch bg-${each.colour}`} aria-hidden="true"></span>${each.title} <b>${value(each)}</b>
      </li>`)}
    </ul>
    ${asTable ? html`<${ChartTable} title=${title} at=${at} series=${series} format=${format} />`
      : html`<div class="plot" ref=${place} role="img" aria-label=${`${title}; the button Table shows its values`}></div>`}
  </section>`;
}

function ChartTable({ title, at, series, format }) {
  const rows = at.map((time, index) => index).reverse().slice(0, MAX_ROWS);
  return html`<div class="table-region chart-table" role="region" tabindex="0" aria-label=${`Values of ${title}`}>
    <table>
      <thead><tr><th scope="col">Time (UTC)</th>${series.map((each) => html`<th scope="col" class="right">${each.title}</th>`)}</tr></thead>
      <tbody>
        ${rows.map((index) => html`<tr key=${at[index]}>
          <td>${utcTime(at[index] * 1000)}</td>
          ${series.map((each) => html`<td class="right">${format(each.values[index])}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}
