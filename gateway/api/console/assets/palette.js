// The command palette: pages, look-ups of runs, views and actions, by keyboard.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get, useStored } from "./api.js";
import { offered } from "./commands.js";
import { VIEWS, lookUp, toSearch, validViews } from "./filters.js";
import { lookUps, matching, stepped } from "./palette_search.js";
import { navigate } from "./router.js";

const MAX_SHOWN = 50;

/** `pages`: [path, title, key]; `commands`: those of the frame, as in `commands.js`. */
export function Palette({ pages, commands, onClose }) {
  const dialog = useRef(null);
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const [clients, setClients] = useState([]);
  const [saved] = useStored("runward.views", []);
  useLayoutEffect(() => { // at once, so that the next key is typed into the field
    const [element, before] = [dialog.current, document.activeElement];
    element.showModal();
    return () => {
      element.close();
      before?.focus?.();
    };
  }, []);
  useEffect(() => {
    get("/api/clients").then((found) => setClients(found.clients.map((each) => each.client)), () => null);
  }, []);
  const all = [
    ...offered().map((each) => ({ ...each, group: "This page" })),
    ...pages.map(([path, title, key]) => ({ title, group: "Go to", key: `g ${key}`, run: () => navigate(path) })),
    ...[...VIEWS.slice(1).map((view) => [view.title, toSearch(Object.entries(view.conditions))]), ...validViews(saved).map((view) => [view.name, view.search])]
      .map(([title, search]) => ({ title: `Runs: ${title}`, group: "View", run: () => navigate("/runs", search) })),
    ...commands.map((each) => ({ ...each, group: "Console" })),
  ];
  const found = lookUps(text, clients).map((each) => ({
    title: each.title,
    group: "Find",
    run: () => {
      const target = lookUp(each.kind, each.text, each.client);
      navigate(target.path ?? "/runs", target.search ?? "");
    },
  }));
  const shown = [...matching(all, text), ...found].slice(0, MAX_SHOWN);
  const index = Math.min(chosen, shown.length - 1);
  const carryOut = (command) => {
    if (!command || command.reason) return;
    onClose();
    setTimeout(command.run, 0); // after the focus has returned to the page
  };
  const onKeyDown = (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    if (event.key in steps) {
      event.preventDefault();
      const step = steps[event.key];
      const next = Math.abs(step) === 1 ? stepped(index, step, shown.length) : Math.max(0, Math.min(shown.length - 1, index + step));
      setChosen(next);
      document.getElementById(`command-${next}`)?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") {
      event.preventDefault();
      carryOut(shown[index]);
    } else if (event.key === "Tab") {
      event.preventDefault(); // the field is the only stop
    }
  };
  return html`<dialog ref=${dialog} class="palette" aria-label="Commands" onCancel=${(event) => {
    event.preventDefault();
    onClose();
  }} onClick=${(event) => event.target === dialog.current && onClose()}>
    <input type="text" role="combobox" aria-label="Command, page, or id of a run" aria-expanded="true" aria-controls="commands" aria-autocomplete="list"
      aria-activedescendant=${index >= 0 ? `command-${index}` : null} autocomplete="off" spellcheck="false" autofocus
      placeholder="Command, page, or id of a run" value=${text} onKeyDown=${onKeyDown} onInput=${(event) => {
        setText(event.target.value);
        setChosen(0);
      }} />
    <ul id="commands" role="listbox" aria-label="Commands">
      ${shown.map((each, at) => html`<li key=${`${each.group} ${each.title}`} id=${`command-${at}`} role="option" aria-selected=${at === index ? "true" : "false"}
        aria-disabled=${each.reason ? "true" : null} onClick=${() => carryOut(each)} onMouseMove=${() => at !== index && setChosen(at)}>
        <span><span class="muted">${each.group}</span> ${each.title}${each.reason ? html` <span class="muted">${each.reason}</span>` : ""}</span>
        ${each.key && html`<kbd>${each.key}</kbd>`}</li>`)}
    </ul>
    <p class="muted palette-foot" role="status">${shown.length === 0 ? "No command and no look-up matches. A look-up needs three characters." : "↑ ↓ to choose, Enter to carry out, Escape to close"}</p>
  </dialog>`;
}
