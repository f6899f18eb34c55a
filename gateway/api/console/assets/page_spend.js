// Spend: what runs cost by day, and by what they have in common.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { API, useData } from "./api.js";
import { number, words } from "./format.js";
import { Empty, Heading, Loaded, Table, useRowKeys } from "./parts.js";
import { Link, navigate } from "./router.js";
import { GROUPS, RANGES, SELECTABLE, amount, axisTop, conflict, daysUntil, nameOf, readQuery, seriesOf, usageQuery, writeQuery } from "./spend.js";

const EVERY = 60_000; // milliseconds
const HEIGHT = 160; // pixels
const LEFT = 56; // pixels of the axis
const WITH_RUNS = ["client", "workflow", "provider", "api", "team", "key", "tag"]; // conditions of a list of runs

export function Spend({ search }) {
  const query = readQuery(search);
  const days = daysUntil(Date.now(), Number(query.days));
  const [from, to] = [days[0], days[days.length - 1]];
  const reason = conflict(query.by, query.conditions);
  const path = (groups, extra) => `/api/usage?${usageQuery(query, from, to, groups, extra)}`;
  const totals = useData(reason ? null : path([query.by]), { every: EVERY });
  const byDay = useData(reason ? null : path(["day", query.by]), { every: EVERY });
  const budgets = useData("/api/budgets", { every: EVERY });
  const show = (changes) => navigate("/spend", writeQuery({ ...query, ...changes }));
  return html`
    <${Heading} title="Spend">
      <div class="segments" role="group" aria-label="Days">
        ${RANGES.map(([value, title]) => html`<button type="button" key=${value} aria-pressed=${value === query.days ? "true" : "false"}
          onClick=${() => show({ days: value })}>${title}</button>`)}
      </div>
    <//>
    <${Loaded} state=${budgets} what="The budgets could not be loaded">${(report) => report.budgets.length > 0 && html`<${Budgets} budgets=${report.budgets} />`}<//>
    <div class="row spend-controls">
      <label class="row">By <select aria-label="Group by" value=${query.by} onChange=${(event) => show({ by: event.target.value })}>
        ${GROUPS.map((each) => html`<option key=${each} value=${each} selected=${each === query.by}>${words(each)}</option>`)}
      </select></label>
      <${AddCondition} query=${query} onAdd=${(pair) => show({ conditions: [...query.conditions, pair] })} />
      ${!reason && html`<a href=${API.slice(0, -1) + path(["day", query.by], [["format", "csv"]])} download="usage.csv">Download CSV</a>`}
    </div>
    ${query.conditions.length > 0 && html`<ul class="chips">${query.conditions.map(([name, value], index) => html`<li key=${index} class="chip">
      ${words(name)}: <b>${nameOf(value)}</b> <button type="button" aria-label=${`Remove ${words(name)} ${value}`}
        onClick=${() => show({ conditions: query.conditions.filter((_, each) => each !== index) })}>✕</button></li>`)}</ul>`}
    ${reason ? html`<p class="warning-box" role="alert">A tag can be combined with client, team and outcome only.</p>` : html`
      <${Loaded} state=${totals} what="The usage could not be loaded">
        ${(report) => html`<${Figures} report=${report} by=${query.by} />
          ${byDay.data && html`<${DayChart} rows=${byDay.data.rows} by=${query.by} days=${days} currency=${report.currency} />`}
          <${Groups} report=${report} query=${query} from=${from} />`}
      <//>
      ${totals.data && html`<${Loaded} state=${byDay} what="The usage by day could not be loaded">${() => null}<//>`}`}
  `;
}

function Budgets({ budgets }) {
  const conditions = (budget) => Object.entries(budget.conditions).map(([name, value]) => `${words(name)} ${value}`).join(", ") || "every run";
  const used = (budget) => (Number(budget.amount) ? Math.min(1, 1 - Number(budget.remaining) / Number(budget.amount)) : 1);
  const share = (budget) => `${Math.round(100 * used(budget))} %`;
  const columns = [
    { name: "budget", title: "Budget", cell: (row) => html`${row.budget}<div class="muted">${conditions(row)}</div>` },
    { name: "window", title: "Window (UTC)", cell: (row) => row.window },
    { name: "amount", title: "Amount", right: true, cell: (row) => amount(row.amount) },
    { name: "spent", title: "Spent", right: true, cell: (row) => amount(row.spent) },
    { name: "unknown", title: "May have been paid", right: true, cell: (row) => html`<span class=${row.unknown === "0" ? "" : "text-unknown"}>${amount(row.unknown)}</span>` },
    { name: "reserved", title: "Reserved", right: true, cell: (row) => amount(row.reserved) },
    { name: "remaining", title: "Remaining", right: true, cell: (row) => (row.exhausted ? html`<span class="text-failed">${amount(row.remaining)}, exhausted</span>` : amount(row.remaining)) },
    { name: "used", title: "Used", cell: (row) => html`<progress max="1" value=${used(row)} aria-label=${`Used of ${row.budget}`}></progress> ${share(row)}${row.hard ? "" : ", only counted"}` },
  ];
  return html`<h2>Budgets</h2><${Table} label="Budgets" columns=${columns} rows=${budgets} rowKey=${(row) => row.budget} />`;
}

function AddCondition({ query, onAdd }) {
  const [name, setName] = useState("client");
  const value = useRef(null);
  const add = (event) => {
    event.preventDefault();
    const text = value.current.value.trim();
    if (text) onAdd([name, text]);
    value.current.value = "";
  };
  return html`<form class="row" onSubmit=${add} aria-label="Add a condition">
    <select aria-label="Condition" value=${name} onChange=${(event) => setName(event.target.value)}>
      ${SELECTABLE.map((each) => html`<option key=${each} value=${each} disabled=${Boolean(conflict(query.by, [[each, ""], ...query.conditions]))}>${words(each)}</option>`)}
    </select>
    <input type="text" ref=${value} aria-label="Value" maxlength="512" size="12" />
    <button type="submit">Add</button>
  </form>`;
}

function Figures({ report, by }) {
  const { total, currency } = report;
  const unit = currency === "XXX" ? "in the unit of the prices" : currency;
  const figures = [
    ["Spent", amount(total.spent), unit],
    ["May have been paid", amount(total.unknown), "the outcome is unknown", total.unknown === "0" ? "" : "unknown"],
    ["Runs", number(total.runs), by === "tag" ? "one for each of their tags" : "that have ended"],
  ];
  return html`<dl class="figures">${figures.map(([title, value, detail, kind]) => html`<div key=${title} class=${kind ? `figure figure-${kind}` : "figure"}>
    <dt>${title}</dt><dd class="figure-value">${value}</dd><dd class="muted">${detail}</dd></div>`)}</dl>`;
}

function Groups({ report, query, from }) {
  useRowKeys();
  const { by } = query;
  if (report.rows.length === 0) return html`<${Empty}>No run was created in these days.<//>`;
  const cost = (row) => Number(row.spent) + Number(row.unknown);
  const rows = [...report.rows].sort((one, other) => cost(other) - cost(one) || other.runs - one.runs);
  const runs = (row) => `?${new URLSearchParams([[by === "outcome" ? "status" : by, row[by]], ["created_after", `${from}T00:00:00Z`]])}`;
  const isLink = (row) => (WITH_RUNS.includes(by) || by === "outcome") && row[by] !== "" && !row[by].startsWith("(");
  const columns = [
    { name: "name", title: titled(by), cell: (row) => (isLink(row) ? html`<${Link} to="/runs" search=${runs(row)}>${words2(by, row[by])}<//>` : nameOf(row[by])) },
    { name: "runs", title: "Runs", right: true, cell: (row) => number(row.runs) },
    { name: "spent", title: "Spent", right: true, cell: (row) => amount(row.spent) },
    { name: "unknown", title: "May have been paid", right: true, cell: (row) => html`<span class=${row.unknown === "0" ? "" : "text-unknown"}>${amount(row.unknown)}</span>` },
  ];
  return html`<${Table} label=${`Usage by ${words(by)}`} columns=${columns} rows=${rows} rowKey=${(row) => row[by]} rowProps=${(row) => ({ "data-row": row[by] })} />`;
}

const titled = (name) => (name === "api" ? "API" : name[0].toUpperCase() + name.slice(1));
const words2 = (by, value) => (by === "outcome" ? words(value) : value);
const kindOf = (each, index) => (each.maybe ? "maybe" : index + 1);

/** Bars of the days, with the series on each other, and a table of the same values. */
function DayChart({ rows, by, days, currency }) {
  const [asTable, setAsTable] = useState(false);
  const [width, setWidth] = useState(0);
  const place = useRef(null);
  useEffect(() => {
    if (!place.current) return undefined;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, [asTable]);
  const series = seriesOf(rows, by, days);
  const title = `Cost by day and ${words(by)}${currency === "XXX" ? "" : `, ${currency}`}`;
  if (series.length === 0) return html`<p class="notice">Nothing was paid in these days, or no price is declared: prices are <code>price</code> of a workflow or provider.</p>`;
  return html`<section class="panel chart spend" aria-label=${title}>
    <header class="panel-header"><h2>${title}</h2>
      <button type="button" class="small" aria-pressed=${asTable ? "true" : "false"} onClick=${() => setAsTable(!asTable)}>Table<span class="visually-hidden"> of ${title}</span></button>
    </header>
    <ul class="legend">${series.map((each, index) => html`<li key=${each.title}><span class=${`swatch bg-series-${kindOf(each, index)}`} aria-hidden="true"></span>${each.title}</li>`)}</ul>
    ${asTable ? html`<${DayTable} title=${title} days=${days} series=${series} />`
      : html`<div class="plot" ref=${place} role="img" aria-label=${`${title}; the button Table shows its values`}>${width > 0 && html`<${Bars} days=${days} series=${series} width=${width} />`}</div>`}
  </section>`;
}

function Bars({ days, series, width }) {
  const top = axisTop(series);
  const bottom = HEIGHT - 20;
  const step = (width - LEFT) / days.length;
  const bar = Math.max(1, step * 0.8);
  const labels = Math.max(1, Math.ceil((72 * days.length) / (width - LEFT)));
  return html`<svg width=${width} height=${HEIGHT} aria-hidden="true">
    ${[0, 0.5, 1].map((share) => html`<g key=${share}><line class="tick" x1=${LEFT} x2=${width} y1=${bottom - share * (bottom - 10)} y2=${bottom - share * (bottom - 10)} />
      <text class="tick-text" x=${LEFT - 6} y=${bottom - share * (bottom - 10) + 4} text-anchor="end">${amount(share * top)}</text></g>`)}
    ${days.map((day, index) => html`<g key=${day}>
      <title>${`${day}: ${series.map((each) => `${each.title} ${amount(each.values[index])}`).join(", ")}`}</title>
      ${stacked(series, index).map(({ low, high, kind }) => html`<rect key=${kind} class=${`series-${kind}`} x=${LEFT + index * step + (step - bar) / 2} width=${bar}
        y=${bottom - (high / top) * (bottom - 10)} height=${((high - low) / top) * (bottom - 10)} />`)}
      ${(days.length - 1 - index) % labels === 0 && html`<text class="tick-text" x=${Math.min(width - 16, LEFT + (index + 0.5) * step)} y=${HEIGHT - 4} text-anchor="middle">${day.slice(5)}</text>`}
    </g>`)}
  </svg>`;
}

function stacked(series, index) {
  let low = 0;
  return series.map((each, place) => {
    const part = { low, high: low + each.values[index], kind: kindOf(each, place) };
    low = part.high;
    return part;
  }).filter(({ low: from, high }) => high > from);
}

function DayTable({ title, days, series }) {
  const shown = days.map((_, index) => index).reverse().filter((index) => series.some((each) => each.values[index] > 0));
  return html`<div class="table-region chart-table" role="region" tabindex="0" aria-label=${`Values of ${title}`}><table>
    <thead><tr><th scope="col">Day (UTC)</th>${series.map((each) => html`<th scope="col" class="right" key=${each.title}>${each.title}</th>`)}</tr></thead>
    <tbody>${shown.map((index) => html`<tr key=${days[index]}><td>${days[index]}</td>
      ${series.map((each) => html`<td class="right" key=${each.title}>${amount(each.values[index])}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}
