// Views of the list of runs: the built-in ones, and those that are saved in this browser.
import { html, useState } from "./vendor/htm-preact.js";
import { useStored } from "./api.js";
import { MAX_VIEWS, VIEWS, addView, conditionPairs, toSearch, validViews, viewOf } from "./filters.js";
import { Dialog } from "./parts.js";
import { Link } from "./router.js";

/** `names`: the chosen columns; `onColumns` sets them: a saved view may have its own. */
export function Views({ search, names, onColumns }) {
  const [stored, store] = useStored("runward.views", []);
  const [saving, setSaving] = useState(false);
  const saved = validViews(stored);
  const own = toSearch(conditionPairs(search).sort());
  const isCurrent = (view) => toSearch(conditionPairs(view.search).sort()) === own;
  const current = viewOf(search);
  return html`<div class="row views">
    <nav class="tabs" aria-label="Views">
      ${VIEWS.map((view) => html`<${Link} key=${view.name} to="/runs" search=${toSearch(Object.entries(view.conditions))}
        aria-current=${view.name === current ? "page" : null}>${view.title}<//>`)}
      ${saved.map((view) => html`<span class="tab-saved" key=${view.name}><${Link} to="/runs" search=${view.search}
        aria-current=${isCurrent(view) ? "page" : null} onClick=${() => view.columns && onColumns(view.columns)}>${view.name}<//>
        <button type="button" class="small quiet" aria-label=${`Remove the view ${view.name}`} onClick=${() => store(saved.filter((each) => each.name !== view.name))}>✕</button></span>`)}
    </nav>
    <button type="button" class="small" onClick=${() => setSaving(true)}>Save this view…</button>
    ${saving && html`<${SaveDialog} saved=${saved} onClose=${() => setSaving(false)}
      onSave=${(name, withColumns) => store(addView(saved, { name, search: toSearch(conditionPairs(search)), ...(withColumns ? { columns: names } : {}) }))} />`}
  </div>`;
}

function SaveDialog({ saved, onSave, onClose }) {
  const [name, setName] = useState("");
  const [withColumns, setWithColumns] = useState(true);
  const replaces = saved.some((view) => view.name === name.trim());
  const isFull = saved.length >= MAX_VIEWS && !replaces;
  const submit = (event) => {
    event.preventDefault();
    if (isFull || !name.trim()) return;
    onSave(name.trim(), withColumns);
    onClose();
  };
  return html`<${Dialog} title="Save this view" onClose=${onClose}><form onSubmit=${submit}>
    <p class="muted">It is kept in this browser. To share a view, send its address: the conditions are in it.</p>
    <label class="field">Name<input required maxlength="40" value=${name} onInput=${(event) => setName(event.target.value)} autocomplete="off" /></label>
    <label class="check"><input type="checkbox" checked=${withColumns} onChange=${(event) => setWithColumns(event.target.checked)} />With the columns that are shown now</label>
    ${replaces && html`<p class="warning-box" role="note">A view of this name is replaced.</p>`}
    ${isFull && html`<p class="warning-box" role="alert">${MAX_VIEWS} views are saved: remove one first.</p>`}
    <footer class="dialog-footer"><button class="primary" disabled=${isFull}>Save</button>
      <button type="button" onClick=${onClose}>Cancel</button></footer></form><//>`;
}
