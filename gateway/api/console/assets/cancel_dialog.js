// The dialog that cancels a run: what that can do in the run's state, and what it did.
import { html, useState } from "./vendor/htm-preact.js";
import { post, useData } from "./api.js";
import { useSubmit } from "./changes.js";
import { statusWord } from "./format.js";
import { Dialog, ErrorBox } from "./parts.js";

const RESULTS = {
  cancelled: "The run was cancelled.",
  stopping: "The provider stops the run.",
  not_stopped: "The provider has not accepted the request.",
  not_yet: "The start is being sent.",
  too_late: "The run goes on.",
};

/** What a request can do; `canStop` of the run's provider is null if that is not known. */
function prospects(run, canStop) {
  if (run.status === "queued") {
    return ["The run waits for its start: it ends as not run, and nothing is paid.",
      "Its client reads that an operator cancelled it. Should its start be sent in this moment, the run goes on."];
  }
  const provider = run.provider ?? "The provider";
  if (canStop) {
    return [`The run was started and may be paid for. ${provider} is asked to stop it.`,
      "It ends as the provider reports, usually as failed."];
  }
  if (canStop === false) {
    return [`The run was started, and ${provider} cannot stop it: it is paid for anyway, unless the start is refused.`,
      "Its end will be recorded. The request only makes sure that no other start follows if this one is refused."];
  }
  return [`The run was started and may be paid for. If ${provider} can stop it, it is asked to.`, "It ends as the provider reports."];
}

/** Cancel a run that has not ended. */
export function CancelDialog({ run, onClose, onDone }) {
  const providers = useData("/api/providers");
  const [answer, setAnswer] = useState(null);
  const [busy, error, submit] = useSubmit(async () => {
    setAnswer(await post(`/api/runs/${run.id}/cancel`));
    onDone();
  });
  const provider = providers.data?.providers.find((each) => each.provider === run.provider);
  const [first, second] = prospects(run, provider?.can_stop_runs ?? null);
  return html`<${Dialog} title="Cancel this run" onClose=${onClose}>
    ${answer
      ? html`<div role="status" data-cancelled=${answer.cancel.state}>
          <p><strong>${RESULTS[answer.cancel.state] ?? answer.cancel.state}</strong> ${answer.cancel.detail}</p>
          <p class="muted">Its status is ${statusWord(answer.status)}.</p></div>`
      : run.finished_at
        ? html`<p role="status">The run has ended meanwhile: ${statusWord(run.status)}.</p>`
        : html`<div data-prospects><p><strong>${first}</strong></p><p class="muted">${second}</p></div>`}
    <${ErrorBox} error=${error} what="The run was not cancelled" />
    <footer class="dialog-footer">
      ${!answer && !run.finished_at && html`<button type="button" class="danger" disabled=${busy} onClick=${submit}>
        ${busy ? "Cancelling…" : "Cancel the run"}</button>`}
      <button type="button" onClick=${onClose}>${answer || run.finished_at ? "Close" : "Let it run"}</button>
    </footer>
  <//>`;
}
