// The heading of the monitor: title, state, buttons, steps taken, facts and problems.
import { button, frontRoot, make } from "../front/elements.js";
import { silence } from "./silence.js";

const WORDS = { pause: "Pause", resume: "Resume", stop: "Stop", go_on: "Go on" };
const MEANING = {
  pause: "Hold after the step under way; nothing is lost",
  resume: "Train on",
  stop: "End after the step under way and save a checkpoint",
  go_on: "Train on from the checkpoint that Stop has saved"
};

// A button that cannot be pressed now stays focusable: at the keyboard one would else lose the place.
function makeButtons(ask) {
  const press = (what, key) => {
    if (key.getAttribute("aria-disabled") !== "true") ask(what);
  };
  const pairs = Object.entries(WORDS).map(([what, word]) => {
    const key = button(word, () => press(what, key));
    key.title = MEANING[what];
    return [what, key];
  });
  return Object.fromEntries(pairs);
}

function makeParts(root, keys) {
  const parts = {
    title: make("span", "dgcl-mon-title"),
    pill: make("span", "dgcl-mon-state"),
    buttons: make("div", "dgcl-mon-buttons", ...Object.values(keys)),
    bar: make("progress", "dgcl-mon-bar"),
    facts: make("div", "dgcl-mon-facts"),
    hint: make("div", "dgcl-note"),
    notes: make("div", "dgcl-mon-notes"),
    silent: make("div", "dgcl-mon-problem")
  };
  parts.pill.setAttribute("role", "status");
  parts.title.tabIndex = -1; // no stop of the Tab key, but a place for the focus
  parts.bar.max = 1;
  parts.bar.setAttribute("aria-label", "steps taken");
  parts.silent.hidden = true;
  const line = make("div", "dgcl-mon-line", parts.title, parts.pill, parts.buttons);
  root.append(line, parts.bar, parts.facts, parts.hint, parts.notes, parts.silent);
  return parts;
}

function lines(texts, kind) {
  return (texts || []).map((text) => make("div", kind, text));
}

function showHead(parts, keys, head) {
  parts.title.textContent = head.title || "";
  // the same words again would be read out again
  if (parts.pill.textContent !== (head.text || "")) parts.pill.textContent = head.text || "";
  parts.pill.dataset.state = head.state || "";
  parts.bar.value = head.done || 0;
  parts.facts.replaceChildren(...(head.facts || []).map((text) => make("span", "", text)));
  parts.hint.textContent = head.hint || "";
  const inactive = lines(head.inactive, "dgcl-note");
  parts.notes.replaceChildren(...inactive, ...lines(head.problems, "dgcl-mon-problem"));
  showButtons(parts, keys, head.buttons || {});
}

// Those of a state; where the one with the focus goes, the focus goes to another one or to the title.
export function showButtons({ buttons, title }, keys, can) {
  const focused = Object.values(keys).find((key) => key.matches(":focus"));
  buttons.hidden = !Object.keys(can).length;
  for (const [what, key] of Object.entries(keys)) {
    key.hidden = !(what in can);
    key.setAttribute("aria-disabled", String(!can[what]));
  }
  if (focused?.hidden) (Object.values(keys).find((key) => !key.hidden) || title).focus();
}

// What is asked, and a number by which it differs from all that any page has asked before: a value that
// the model has already is not sent, and a page that is loaded again must not begin to count anew.
export function nextAsked(asked, what) {
  return [what, (asked?.[1] ?? 0) + 1];
}

export function render({ model, el }) {
  let last = Date.now();
  const keys = makeButtons((what) => {
    model.set("asked", nextAsked(model.get("asked"), what));
    model.save_changes();
  });
  const parts = makeParts(frontRoot(el, "Monitor of a run"), keys);
  const draw = () => {
    last = Date.now();
    parts.silent.hidden = true;
    showHead(parts, keys, model.get("head"));
  };
  const listen = () => {
    // a page without a kernel expects no news
    const { state, wait } = model.get("head");
    const text = model.isPage ? "" : silence(state, Date.now() - last, wait);
    parts.silent.hidden = !text;
    parts.silent.textContent = text;
  };
  const timer = setInterval(listen, 1000);
  model.on("change:head", draw);
  draw();
  return () => {
    clearInterval(timer);
    model.off("change:head", draw);
  };
}
