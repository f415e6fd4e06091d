// The numbers of the selection, beside those of all points shown.
import { css } from "../front/colours.js";
import { make } from "../front/elements.js";
import { UNKNOWN } from "../front/palette.js";
import { shownRows, summarise } from "./selection.js";
import { className, fixed, percent, rowHead, thousands } from "./words.js";

const EMPTY = "Nothing yet. Draw a line around cells: they are marked in the images below, " +
  "and their numbers stand here.";

const LINES = [
  ["cells", (summary) => thousands(summary.n)],
  ["mean density", (summary) => fixed(summary.density)],
  ["mean confidence", (summary) => fixed(summary.confidence)]
];

function comparison({ said }, selected, all) {
  const heads = [make("td"), make("th", "", "selected"), make("th", "", "all shown")];
  const table = make("table", "dgcl-values dgcl-compare", make("tr", "", ...heads));
  const lines = [...LINES, [`${said} right`, (summary) => percent(summary.right)]];
  for (const [name, textOf] of lines) {
    const cells = [selected, all].map((summary) => make("td", "", textOf(summary)));
    table.append(make("tr", "", rowHead(name), ...cells));
  }
  return table;
}

function classBars(scene, { mix, n }) {
  const bars = make("ul", "dgcl-bars");
  for (const [c, count] of mix) {
    const bar = make("span", "dgcl-bar");
    bar.style.width = `${(100 * count) / mix[0][1]}%`;
    bar.style.background = css(scene.palette[c] || UNKNOWN);
    const value = make("span", "dgcl-value", `${thousands(count)} (${percent(count / n)})`);
    const words = make("span", "dgcl-name", make("span", "", className(scene, c)), value);
    bars.append(make("li", "", words, make("span", "dgcl-rail", bar)));
  }
  return bars;
}

// A button that cannot be pressed any more hands its focus on.
function setDisabled(node, isDisabled, next) {
  const hadFocus = node.matches(":focus");
  node.disabled = isDisabled;
  if (isDisabled && hadFocus) next.focus({ preventScroll: true });
}

export function showSummary(app, points) {
  const { scene, chosenBox } = app;
  const rows = [...app.selected];
  const head = make("h4", "", "Selection");
  setDisabled(app.csv, !rows.length, app.all);
  setDisabled(app.clear, !rows.length && app.clicked < 0, app.all);
  if (!rows.length) {
    chosenBox.replaceChildren(head, make("p", "dgcl-note", EMPTY));
    return;
  }
  const selected = summarise(points, rows);
  const table = comparison(scene, selected, summarise(points, shownRows(points)));
  const mixHead = make("p", "dgcl-note", "Class mix:");
  chosenBox.replaceChildren(head, table, mixHead, classBars(scene, selected));
}
