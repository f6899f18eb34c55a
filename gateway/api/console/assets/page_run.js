// One run: its facts, its timeline to scale, and what can be done with it.
import { html, useState } from "./vendor/htm-preact.js";
import { API, useData } from "./api.js";
import { CancelDialog } from "./cancel_dialog.js";
import { JudgeDialog, RedeliverDialog, ReplayDialog } from "./changes.js";
import { ago, curlCommand, duration, isEnded, runDuration, shortId, words } from "./format.js";
import { useCommands } from "./commands.js";
import { Action, Code, Copy, Empty, Heading, Loaded, Status, Table, Time, VIEWER_REASON, useKeys } from "./parts.js";
import { Link, navigate } from "./router.js";
import { LANES, layOut } from "./run_timeline.js";
import { amount } from "./spend.js";

const EVERY = 2000; // milliseconds, until the run has ended

export function Run({ id, session }) {
  const [ended, setEnded] = useState(null);
  const path = `/api/runs/${encodeURIComponent(id)}`;
  const state = useData(path, { every: ended === id ? 0 : EVERY });
  const run = state.data;
  if (run && isEnded(run) && ended !== id && run.callback?.state !== "pending") setEnded(id);
  return html`
    <${Heading} title=${`Run ${shortId(id)}`}>
      <${Copy} text=${id} label="Copy id" />
      <${Copy} text=${curlCommand(window.location.origin, API.slice(0, -1) + path, { keyRequired: session.keys_required })} label="Copy as curl" />
    <//>
    <${Loaded} state=${state} what="The run could not be loaded">
      ${(found) => html`<${Actions} run=${found} session=${session} reload=${() => {
        setEnded(null);
        state.reload();
      }} /><${Facts} run=${found} /><${Timeline} run=${found} />`}
    <//>
  `;
}

function Actions({ run, session, reload }) {
  const [dialog, setDialog] = useState(null);
  const close = () => setDialog(null);
  const notEnded = isEnded(run) ? "" : "The run has not ended.";
  const unfinished = run.finished_at ? "The run has ended." : "";
  const isUnknown = run.status === "unknown" ? notEnded : "Only a run with an unknown outcome is judged.";
  const hasCallback = run.callback ? notEnded : "The run has no callback.";
  const viewer = session.role === "viewer" ? VIEWER_REASON : "";
  const open = (name, reason) => () => !viewer && !reason && setDialog(name);
  useKeys({ r: open("replay", notEnded), c: open("cancel", unfinished) });
  useCommands([
    { title: "Replay this run…", key: "r", run: open("replay", notEnded), reason: viewer || notEnded },
    { title: "Cancel this run…", key: "c", run: open("cancel", unfinished), reason: viewer || unfinished },
    { title: "Judge this run…", run: open("judge", isUnknown), reason: viewer || isUnknown },
    { title: "Redeliver the callback of this run…", run: open("redeliver", hasCallback), reason: viewer || hasCallback },
    { title: "Show the replays of this run", run: () => navigate("/runs", `?replay_of=${run.id}`) },
    { title: "Copy the id of this run", run: () => navigator.clipboard?.writeText(run.id) },
  ]);
  return html`<div class="row toolbar" role="group" aria-label="Actions">
    <${Action} session=${session} reason=${notEnded} onClick=${open("replay", notEnded)}>Replay…<//>
    <${Action} session=${session} reason=${unfinished} onClick=${open("cancel", unfinished)}>Cancel…<//>
    <${Action} session=${session} reason=${isUnknown} onClick=${open("judge", isUnknown)}>Judge…<//>
    <${Action} session=${session} reason=${hasCallback} onClick=${open("redeliver", hasCallback)}>Redeliver callback…<//>
    <${Link} to="/runs" search=${`?replay_of=${run.id}`}>Its replays<//>
    <${Link} to="/start" search=${`?${new URLSearchParams({ client: run.client, workflow: run.workflow })}`}>Run the workflow…<//>
    ${dialog === "replay" && html`<${ReplayDialog} title="Replay this run" selection=${{ ids: [run.id] }} onClose=${close} onStarted=${reload} />`}
    ${dialog === "cancel" && html`<${CancelDialog} run=${run} onClose=${close} onDone=${reload} />`}
    ${dialog === "judge" && html`<${JudgeDialog} run=${run} onClose=${close} onDone=${reload} />`}
    ${dialog === "redeliver" && html`<${RedeliverDialog} id=${run.id} onClose=${close} onDone=${reload} />`}
  </div>`;
}

function Facts({ run }) {
  const waits = Object.entries(run.waits ?? {}).map(([cause, seconds]) => `${cause} ${duration(seconds * 1000)}`);
  const metadata = Object.entries(run.metadata ?? {});
  const facts = [
    ["Id", html`<span class="mono wrap">${run.id}</span>`],
    ["Status", html`<${Status} run=${run} />`],
    ["Problem", run.error && html`<${Code} code=${run.error.code} /> ${run.error.detail}`],
    ["Warning", run.warning],
    ["Judgement", run.judgement && html`${words(run.judgement.verdict)} <${Time} at=${run.judgement.at} /> ${run.judgement.note}`],
    ["Workflow", html`<${Link} to="/runs" search=${`?${new URLSearchParams({ workflow: run.workflow })}`}>${run.workflow}<//>`],
    ["Provider", run.provider],
    ["Provider's run id", run.provider_run_id && html`<span class="mono wrap">${run.provider_run_id}</span>`],
    ["Client", run.client],
    ["API", run.api && words(run.api)],
    ["Label, version", [run.label, run.version].filter((each) => each !== null && each !== undefined).join(", ") || null],
    ["Created", html`<${Time} at=${run.created_at} milliseconds /> <span class="muted">${ago(run.created_at)}</span>`],
    ["Ended", run.finished_at && html`<${Time} at=${run.finished_at} milliseconds />`],
    ["Duration", duration(runDuration(run))],
    ["Attempts", run.attempts],
    ["Cost", run.cost ? (run.cost.certainty === "unknown" ? `${amount(run.cost.amount)}, of which ${amount(run.cost.unknown)} may have been paid` : amount(run.cost.amount)) : null],
    ["Team", run.team],
    ["Key", run.key],
    ["Waits", waits.join(", ") || null],
    ["Next poll", run.activity?.next_poll_at && html`<${Time} at=${run.activity.next_poll_at} />`],
    ["Nodes", run.activity?.nodes && Object.entries(run.activity.nodes).map(([name, node]) => `${name}: ${node.status}`).join(", ")],
    ["Callback", run.callback?.state && words(run.callback.state)],
    ["Replay of", run.replay_of && html`<${Link} to=${`/runs/${run.replay_of}`} class="mono wrap">${run.replay_of}<//>`],
    ["Durable", run.kept ? "yes" : "no"],
    ["Tags", (run.tags ?? []).join(", ") || null],
    ["Metadata", metadata.length ? metadata.map(([name, value]) => `${name}=${value}`).join(", ") : null],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<section class="panel" aria-label="Facts"><h2>Facts</h2>
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></section>`;
}

const HEIGHT = 24; // of a lane, in pixels
const share = (value) => `${(value * 100).toFixed(3)}%`;

function Timeline({ run }) {
  const { total, marks, ticks, clipped } = layOut(run);
  const lanes = LANES.map((_, index) => index).filter((lane) => marks.some((mark) => mark.lane === lane));
  if (marks.length === 0) return html`<section class="panel" aria-label="Timeline"><h2>Timeline</h2><${Empty}>No event is recorded yet.<//></section>`;
  const height = lanes.length * HEIGHT + 20;
  return html`<section class="panel" aria-label="Timeline">
    <h2>Timeline <span class="muted">${duration(total)}, to scale</span></h2>
    <div class="timeline">
      <div class="timeline-lanes" aria-hidden="true">${lanes.map((lane) => html`<div key=${lane}>${LANES[lane]}</div>`)}</div>
      <svg width="100%" height=${height} role="img" aria-label=${`Timeline of ${duration(total)} with ${marks.length} events; the table below lists them`}>
        ${ticks.map((tick) => html`<g key=${tick.milliseconds}>
          <line class="tick" x1=${share(tick.share)} x2=${share(tick.share)} y1="0" y2=${height - 20} />
          <text class="tick-text" x=${share(tick.share)} y=${height - 5} text-anchor=${tick.share < 0.05 ? "start" : tick.share > 0.93 ? "end" : "middle"}>
            ${tick.milliseconds ? duration(tick.milliseconds) : "0"}</text></g>`)}
        ${marks.map((mark, index) => html`<${Mark} key=${index} mark=${mark} y=${lanes.indexOf(mark.lane) * HEIGHT + 4} />`)}
      </svg>
    </div>
    ${clipped && html`<p class="muted">Callbacks after the right edge are drawn at it; the table has their times.</p>`}
    <${Table} label="Events" kind="events" rowKey=${(mark, index) => index} rows=${marks} columns=${[
      { name: "at", title: "Time (UTC)", cell: (mark) => html`<${Time} at=${mark.event.at} short milliseconds />` },
      { name: "offset", title: "After", right: true, cell: (mark) => duration(Math.max(0, mark.offset)) },
      { name: "text", title: "Event", cell: (mark) => html`<span class=${`mark-dot bg-${mark.kind}`} aria-hidden="true"></span>${mark.text}` },
    ]} />
  </section>`;
}

// Points have a width of 3 pixels, moved to the left at the right edge.
function Mark({ mark, y }) {
  const isPoint = mark.width < 0.004;
  const left = isPoint && mark.left > 0.99 ? "99.4%" : share(mark.left);
  return html`<rect class=${`mark mark-${mark.kind} ${mark.folded ? "mark-folded" : ""}`} x=${left} width=${isPoint ? "3" : share(mark.width)} y=${y} height=${HEIGHT - 8} rx="1.5">
    <title>${`${duration(Math.max(0, mark.offset))}: ${mark.text}`}</title></rect>`;
}
