// Live: runs as they are created and end.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { useCommands } from "./commands.js";
import { duration, number, plural } from "./format.js";
import { DEFAULT_COLUMNS, Empty, ErrorBox, Heading, RUN_COLUMNS, Table, useKeys, useRowKeys } from "./parts.js";
import { stream, useTick } from "./stream.js";

const MAX_ROWS = 200;
const FIRST_ROWS = 30; // runs that are there when the page is opened

/** Rows with the runs of an event in front; a row of a run that has changed is replaced where it stands. */
export function mergeRuns(rows, event, limit = MAX_ROWS) {
  const changed = new Map(event.runs.map((run) => [run.id, run]));
  const kept = rows.map((row) => {
    const run = row.run && changed.get(row.run.id);
    if (!run) return row;
    changed.delete(run.id);
    return { run };
  });
  const added = [...changed.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1)).map((run) => ({ run }));
  const gap = event.more ? [{ gap: "More runs were created or ended in this second than are shown.", key: event.at ?? Math.random() }] : [];
  return [...gap, ...added, ...kept].slice(0, limit);
}

/** Rows with the runs of a list behind those that are there already. */
export function appendRuns(rows, runs, limit = MAX_ROWS) {
  const known = new Set(rows.map((row) => row.run?.id));
  return [...rows, ...runs.filter((run) => !known.has(run.id)).map((run) => ({ run }))].slice(0, limit);
}

const gapRow = (gap) => ({ gap: `The stream was interrupted for ${duration(gap)}; runs of that time may be missing.`, key: `gap-${Date.now()}` });

export function Live() {
  const [rows, setRows] = useState([]);
  const [paused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState(0);
  const held = useRef([]);
  const isPaused = useRef(false);
  const [error, setError] = useState(null);
  const { tick, connected } = useTick();
  const apply = (change, count) => {
    if (isPaused.current) {
      held.current = change(held.current);
      setWaiting((old) => old + count);
    } else {
      setRows((old) => (held.current = change(old)));
    }
  };
  const pause = (wanted) => {
    isPaused.current = wanted;
    setPaused(wanted);
    if (!wanted) {
      setRows(held.current);
      setWaiting(0);
    }
  };
  useEffect(() => {
    get(`/api/runs?limit=${FIRST_ROWS}`).then((page) => apply((old) => appendRuns(old, page.runs), 0), setError);
  }, []);
  useEffect(() => {
    const onRuns = (event) => apply((old) => mergeRuns(old, event.detail), event.detail.runs.length);
    const onState = (event) => event.detail.gap && apply((old) => [gapRow(event.detail.gap), ...old].slice(0, MAX_ROWS), 0);
    const onScroll = () => {
      if (window.scrollY > 120 && !isPaused.current) pause(true);
    };
    stream.addEventListener("runs", onRuns);
    stream.addEventListener("state", onState);
    window.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      stream.removeEventListener("runs", onRuns);
      stream.removeEventListener("state", onState);
      window.removeEventListener("scroll", onScroll);
    };
  }, []);
  useKeys({ p: () => pause(!isPaused.current) });
  useCommands([{ title: paused ? "Resume the list" : "Pause the list", key: "p", run: () => pause(!isPaused.current) }]);
  useRowKeys();
  const columns = RUN_COLUMNS.filter((column) => DEFAULT_COLUMNS.includes(column.name));
  const cells = columns.map((column, index) => ({
    ...column,
    cell: (row) => (row.run ? column.cell(row.run) : index === 0 ? html`<strong class="gap">${row.gap}</strong>` : ""),
  }));
  return html`
    <${Heading} title="Live">
      <span class="muted">${connected ? `${number(tick?.runs_per_second, 1)} runs a second, ${number(tick?.in_flight)} in flight` : "not connected"}</span>
      <button type="button" aria-pressed=${paused ? "true" : "false"} onClick=${() => {
        if (paused) window.scrollTo(0, 0);
        pause(!paused);
      }}>${paused ? "Resume" : "Pause"} <kbd>p</kbd></button>
    <//>
    ${paused && html`<p class="notice" role="status">Paused. ${waiting ? `${plural(waiting, "change")} since then.` : "Nothing new since then."}</p>`}
    ${!connected && html`<p class="warning-box" role="alert">The stream is not connected; the console connects again by itself.</p>`}
    <${ErrorBox} error=${error} what="The latest runs could not be loaded; new ones appear nevertheless" />
    ${rows.length === 0 ? html`<${Empty}>${connected ? "Waiting for runs: new ones appear here." : "No run was received."}<//>`
      : html`<${Table} label="Live runs" columns=${cells} rows=${rows} rowKey=${(row) => row.run?.id ?? row.key}
          rowProps=${(row) => (row.run ? { "data-row": row.run.id, tabindex: "-1" } : { class: "gap-row" })} />`}
    <p class="muted">The last ${MAX_ROWS} runs at most. Scrolling down pauses.</p>
  `;
}
