// Dialogs for what changes something: replays with their plan, judgements, callbacks, providers.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get, post } from "./api.js";
import { number, plural, statusWord, words } from "./format.js";
import { Dialog, ErrorBox } from "./parts.js";
import { amount } from "./spend.js";

const LEFT_OUT = {
  already_replayed: "were replayed before",
  succeeded: "succeeded",
  outcome_unknown: "have an unknown outcome",
  run_unfinished: "have not ended",
  input_not_kept: "have no kept input",
  not_found: "were not found",
};

/** Submit once at a time; `[busy, error, submit]`. */
export function useSubmit(action) {
  const [state, setState] = useState({ busy: false, error: null });
  const submit = async (event) => {
    event?.preventDefault();
    if (state.busy) return;
    setState({ busy: true, error: null });
    try {
      await action();
      setState({ busy: false, error: null });
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return [state.busy, state.error, submit];
}

/** Plan a replay of `selection` ({ ids } or { filter }), show the plan, start it, and follow its progress. */
export function ReplayDialog({ selection, title = "Replay runs", onClose, onStarted }) {
  const [includeUnknown, setIncludeUnknown] = useState(false);
  const [rate, setRate] = useState(5);
  const [job, setJob] = useState(null);
  const [followError, setFollowError] = useState(null);
  const body = { ...selection, include_unknown: includeUnknown, rate };
  const [planning, planError, plan] = useSubmit(async () => setJob(await post("/api/replays", { ...body, dry_run: true })));
  const [starting, startError, start] = useSubmit(async () => {
    setJob(await post("/api/replays", { ...body, dry_run: false, plan: job.id }));
    onStarted?.();
  });
  const [aborting, abortError, abort] = useSubmit(async () => setJob(await post(`/api/replays/${job.id}/abort`)));
  useEffect(() => {
    setJob(null);
    plan();
  }, [includeUnknown]);
  useEffect(() => {
    if (job?.state !== "running") return undefined;
    const timer = setTimeout(async () => {
      try {
        setJob(await get(`/api/replays/${job.id}`));
        setFollowError(null);
      } catch (error) {
        setFollowError(error);
        setJob({ ...job });
      }
    }, 1500);
    return () => clearTimeout(timer);
  }, [job]);
  const planned = job?.state === "planned";
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <p class="muted">Each run is started anew, with the input that was kept. Runs that were replayed before are left out.</p>
    ${selection.filter && html`<p class="muted">The plan has all runs that meet the conditions, not only this page: those of the last 7 days,
      unless a condition names a time; runs that succeeded only if a condition asks for them.</p>`}
    <${ErrorBox} error=${planError} retry=${plan} what="The plan could not be made" />
    <${ErrorBox} error=${startError} what="The replay was not started" />
    <${ErrorBox} error=${abortError} what="The replay could not be stopped" />
    <${ErrorBox} error=${followError} what="The progress could not be read; it is read again" />
    ${planning && html`<p role="status">Making the plan…</p>`}
    ${job && (planned ? html`<${Plan} job=${job} />` : html`<${Progress} job=${job} />`)}
    ${(!job || planned) && html`
      <label class="check"><input type="checkbox" checked=${includeUnknown} onChange=${(event) => setIncludeUnknown(event.target.checked)} />
        Include runs whose outcome is unknown</label>
      ${includeUnknown && html`<p class="warning-box" role="note">Each of these runs may be paid for twice.</p>`}
      <label class="field">Starts a second
        <input type="number" min="0.2" max="50" step="0.1" value=${rate} onChange=${(event) => {
          setRate(Number(event.target.value) || 5);
          setJob(null);
        }} /></label>`}
    <footer class="dialog-footer">
      ${!job && !planning && html`<button type="button" onClick=${plan}>Make the plan</button>`}
      ${planned && html`<button type="button" class="primary" aria-disabled=${job.plan.total === 0 || starting ? "true" : null}
        onClick=${job.plan.total === 0 ? null : start}>${starting ? "Starting…" : `Start ${plural(job.plan.total, "run")}`}</button>`}
      ${job?.state === "running" && html`<button type="button" class="danger" onClick=${abort}>${aborting ? "Stopping…" : "Stop"}</button>`}
      <button type="button" onClick=${onClose}>${planned || !job ? "Cancel" : "Close"}</button>
    </footer>
  <//>`;
}

function priceOf({ total, price }) {
  if (price.unpriced === total) return "No price is declared for these runs.";
  const unpriced = price.unpriced ? `, and ${plural(price.unpriced, "run")} without a declared price` : "";
  return `Declared price if all are executed: ${amount(price.total)}${unpriced}.`;
}

function Plan({ job }) {
  const { plan } = job;
  const outcomes = ["not_run", "failed", "succeeded", "unknown"].filter((name) => plan[name]);
  const reasons = Object.entries(plan.left_out);
  return html`<div class="panel" data-plan>
    <p><strong>${plan.total ? `The plan starts ${plural(plan.total, "run")}.` : "The plan starts nothing."}</strong></p>
    ${outcomes.length > 0 && html`<p>Of these: ${outcomes.map((name) => `${number(plan[name])} ${statusWord(name)}`).join(", ")}.</p>`}
    ${plan.total > 0 && plan.price && html`<p>${priceOf(plan)}</p>`}
    ${reasons.length > 0 && html`<p>Left out:</p><ul class="plain">
      ${reasons.map(([name, count]) => html`<li key=${name}>${number(count)} ${LEFT_OUT[name] ?? words(name)}</li>`)}</ul>`}
    ${plan.truncated && html`<p class="warning-box">There may be more runs than were examined.</p>`}
  </div>`;
}

const JOB_WORDS = { running: "The replay is running.", done: "The replay has ended.", aborted: "The replay was stopped." };

function Progress({ job }) {
  const { progress } = job;
  const refusals = Object.entries(progress.refusals ?? {});
  return html`<div class="panel" data-progress aria-live="polite">
    <p><strong>${JOB_WORDS[job.state] ?? `The replay is ${words(job.state)}.`}</strong> <span class="mono muted">${job.id}</span></p>
    <progress max=${progress.total || 1} value=${progress.total - progress.left} aria-label="Runs dealt with"></progress>
    <p>${number(progress.started)} started, ${number(progress.already_started)} started before,
      ${" "}${number(progress.refused)} refused, ${number(progress.left)} left.</p>
    ${refusals.length > 0 && html`<ul class="plain">${refusals.map(([name, count]) => html`<li key=${name}>${number(count)} refused: ${words(name)}</li>`)}</ul>`}
  </div>`;
}

/** Record what was found at the provider about a run that ended as unknown. */
export function JudgeDialog({ run, onClose, onDone }) {
  const [verdict, setVerdict] = useState(run.judgement?.verdict ?? "");
  const [note, setNote] = useState(run.judgement?.note ?? "");
  const [busy, error, submit] = useSubmit(async () => {
    await post(`/api/runs/${run.id}/judge`, { verdict, note });
    onDone();
    onClose();
  });
  const option = (value, text) => html`<label class="check">
    <input type="radio" name="verdict" value=${value} required checked=${verdict === value} onChange=${() => setVerdict(value)} />${text}</label>`;
  return html`<${Dialog} title="Judge this run" onClose=${onClose}>
    <p class="muted">Look the run up at the provider first. The outcome stays unknown for the client; the judgement is kept beside it.</p>
    <form onSubmit=${submit}>
      <fieldset><legend>What was found at ${run.provider ?? "the provider"}</legend>
        ${option("found_paid", "The run was executed: it is paid for")}
        ${option("found_not_run", "The run was not executed")}
      </fieldset>
      <label class="field">Note<input maxlength="500" value=${note} onInput=${(event) => setNote(event.target.value)} /></label>
      <${ErrorBox} error=${error} what="The judgement was not stored" />
      <footer class="dialog-footer"><button class="primary" disabled=${busy}>Judge</button>
        <button type="button" onClick=${onClose}>Cancel</button></footer>
    </form>
  <//>`;
}

/** Deliver the callback of a run again. */
export function RedeliverDialog({ id, onClose, onDone }) {
  const [busy, error, submit] = useSubmit(async () => {
    await post(`/callbacks/replay/${id}`);
    onDone();
    onClose();
  });
  return html`<${Dialog} title="Deliver the callback again" onClose=${onClose}>
    <p>The callback of <span class="mono">${id}</span> becomes due now, and its delivery schedule starts again.
      A receiver that had it already gets it a second time.</p>
    <${ErrorBox} error=${error} what="The callback was not made due" />
    <footer class="dialog-footer"><button type="button" class="primary" disabled=${busy} onClick=${submit}>Deliver again</button>
      <button type="button" onClick=${onClose}>Cancel</button></footer>
  <//>`;
}

const MODES = {
  suspended: ["Suspend", "New runs for this provider wait or fall back; nothing is started. Started runs are followed on."],
  open: ["Open the circuits", "New runs are refused at once, or fall back, as if the provider were failing."],
  closed: ["Close the circuits", "Runs are started even while the provider fails: failures may be paid for."],
  auto: ["Return to automatic", "The circuit breakers decide again. The note is removed."],
};

/** Set the mode of a provider, with a note. */
export function OverrideDialog({ provider, mode, onClose, onDone }) {
  const [note, setNote] = useState("");
  const [busy, error, submit] = useSubmit(async () => {
    await post(`/providers/override/${encodeURIComponent(provider)}`, { mode, note });
    onDone();
    onClose();
  });
  const [title, meaning] = MODES[mode];
  return html`<${Dialog} title=${`${title}: ${provider}`} onClose=${onClose}>
    <form onSubmit=${submit}>
      <p>${meaning} This applies to all replicas of the store.</p>
      ${mode !== "auto" && html`<label class="field">Note for other operators
        <input maxlength="200" value=${note} onInput=${(event) => setNote(event.target.value)} placeholder="why, and until when" /></label>`}
      <${ErrorBox} error=${error} what="The mode was not changed" />
      <footer class="dialog-footer"><button class=${mode === "auto" ? "primary" : "danger"} disabled=${busy}>${title}</button>
        <button type="button" onClick=${onClose}>Cancel</button></footer>
    </form>
  <//>`;
}

