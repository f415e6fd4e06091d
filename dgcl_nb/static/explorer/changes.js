// Two runs, cell by cell: what each says, and how its density changed. Rows are the same in both steps.
import { choice } from "../front/choice.js";
import { button, explain, make } from "../front/elements.js";
import { CHANGES } from "./names.js";
import { shownRows } from "./selection.js";
import { drawCrop } from "./thumbs.js";
import { className, colourChip, fixed, thousands } from "./words.js";

const MOST_CARDS = 24;
const MOST_LINES = 400; // between the places of a cell in both layouts
export const UNTOLD = 255; // the change of a cell whose class is not known
const ORDERS = {
  fall: ["sparser in the second run", (a, b) => a - b],
  rise: ["denser in the second run", (a, b) => b - a]
};

function signed(value) {
  return Number.isNaN(value) ? "unknown" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

// The rows whose density is known in both runs, sorted by its change; of one kind of change, or of all (-1).
export function sortedByShift(points, rows, kind, order) {
  const isWanted = (i) => kind < 0 || points.change[i] === kind;
  const known = rows.filter((i) => !Number.isNaN(points.shift[i]) && isWanted(i));
  const compare = ORDERS[order][1];
  return known.sort((i, j) => compare(points.shift[i], points.shift[j]) || i - j);
}

// How many shown cells are of each kind, and by how much their density changed on average.
export function tallyChanges(points, rows) {
  const tally = CHANGES.map(() => ({ count: 0, sum: 0, known: 0 }));
  for (const i of rows) {
    const found = tally[points.change[i]];
    if (!found) continue;
    found.count++;
    if (Number.isNaN(points.shift[i])) continue;
    found.sum += points.shift[i];
    found.known++;
  }
  return tally.map(({ count, sum, known }) => ({ count, shift: known ? sum / known : NaN }));
}

// What is told of a cell beside its values: nothing where there is one run only.
export function changeValues(points, i) {
  if (!points.change) return [];
  const told = points.change[i] === UNTOLD ? "unknown" : CHANGES[points.change[i]][0];
  return [["change", told], ["change of density", signed(points.shift[i])]];
}

function card(app, i) {
  const [before, after] = app.scene.steps;
  const crop = make("canvas", "dgcl-crop");
  const isDrawn = drawCrop(crop, app.scene, app.points(), i, 56);
  const said = [before, after].map((points) => className(app.scene, points.pseudo[i])).join(" → ");
  const dense = [before, after].map((points) => fixed(points.density[i], 2)).join(" → ");
  const lines = [className(app.scene, before.label[i]), said, `${dense} (${signed(before.shift[i])})`];
  const text = make("span", "dgcl-card-text", ...lines.map((line) => make("span", "", line)));
  const node = button("", () => app.click(i));
  node.classList.add("dgcl-card");
  node.dataset.row = i;
  node.append(...(isDrawn ? [crop] : []), text);
  explain(node, `True class; ${app.scene.said} of both runs; density of both. Click: where it lies`);
  return node;
}

// One line for each kind; pressing it lists cells of that kind only. Made once: a button that is made anew
// when it is pressed loses the focus.
function kindButtons(state, refresh) {
  return CHANGES.map(([name, rgb], kind) => {
    const node = button("", () => {
      state.kind = state.kind === kind ? -1 : kind;
      refresh();
    });
    node.told = make("span", "dgcl-value");
    node.append(make("span", "", colourChip(rgb), name), node.told);
    return node;
  });
}

// Which of them is pressed, and how many cells each stands for.
function showKinds(buttons, pressed, tally) {
  tally.forEach(({ count, shift }, kind) => {
    const meanText = Number.isNaN(shift) ? "" : `, density ${signed(shift)}`;
    buttons[kind].setAttribute("aria-pressed", String(pressed === kind));
    buttons[kind].told.textContent = `${thousands(count)}${meanText}`;
  });
}

export function changesControl(app) {
  const state = { kind: -1, order: "fall" };
  const box = make("div", "dgcl-strip dgcl-changes");
  const cards = make("div", "dgcl-cards");
  const note = make("p", "dgcl-note");
  box.refresh = () => {
    box.hidden = !app.scene.compared;
    if (box.hidden) return;
    const points = app.points();
    const shown = shownRows(points);
    const rows = sortedByShift(points, shown, state.kind, state.order);
    showKinds(buttons, state.kind, tallyChanges(points, shown));
    cards.replaceChildren(...rows.slice(0, MOST_CARDS).map((i) => card(app, i)));
    const first = Math.min(MOST_CARDS, rows.length);
    const all = `${thousands(rows.length)} cells whose density is known in both runs`;
    note.textContent = `The first ${first} of ${all}.`;
  };
  const buttons = kindButtons(state, box.refresh);
  const kinds = make("div", "dgcl-kinds", ...buttons);
  const orders = Object.entries(ORDERS).map(([key, [name]]) => [key, name]);
  const order = choice("Sorted by change of density", orders, state.order, (key) => {
    state.order = key;
    box.refresh();
  });
  box.append(make("h4", "", "What changed"), kinds, order, note, cards);
  return box;
}

// From the place of each chosen cell to its place in the other run.
export function drawJoins(app, pen) {
  if (!app.scene.compared || app.move) return;
  const { px, py, view, width, height } = app;
  const other = app.scene.steps[1 - app.now].xy;
  const rows = [...app.selected].slice(0, MOST_LINES);
  if (app.clicked >= 0) rows.push(app.clicked);
  pen.strokeStyle = app.ink;
  pen.lineWidth = rows.length > 40 ? 0.4 : 1;
  pen.beginPath();
  for (const i of rows) {
    pen.moveTo(px[i], py[i]);
    const [x, y] = [other[2 * i] - view.x, other[2 * i + 1] - view.y];
    pen.lineTo(x * view.scale + width / 2, height / 2 - y * view.scale);
  }
  pen.stroke();
}
