// The nearest points of the clicked one, as lines and as a list.
import { make } from "../front/elements.js";
import { changeValues } from "./changes.js";
import { drawCrop } from "./thumbs.js";
import { classChip, className, valuesOf, valueTable } from "./words.js";

// { rows, cosines } of point i; null where only Python could find them.
export function neighboursOf(app, points, i) {
  const { k, step, n } = points;
  if (k) {
    const cosines = points.cosines.subarray(i * k, (i + 1) * k);
    return {
      rows: points.near.subarray(i * k, (i + 1) * k),
      cosines: Float32Array.from(cosines, (level) => level / 32767)
    };
  }
  const found = app.model.get("found");
  if (found && found.row === i && found.step === step) return found;
  return n <= 1 ? { rows: [], cosines: [] } : null;
}

function clickedParts(app, points, i) {
  const crop = make("canvas", "dgcl-crop");
  const isDrawn = drawCrop(crop, app.scene, points, i, 76);
  const rows = valuesOf(app.scene, points, i).slice(0, 4);
  const short = rows.map(([name, ...rest]) => [name.replace("-label", ""), ...rest]);
  const table = valueTable(app.scene, [...short, ...changeValues(points, i)]);
  return [make("h4", "", "Clicked cell"), make("div", "dgcl-pair", ...(isDrawn ? [crop] : []), table)];
}

function neighbourLine(app, points, row, cosine) {
  const { scene } = app;
  const c = points.kind[row];
  const crop = make("canvas", "dgcl-crop");
  const isDrawn = drawCrop(crop, scene, points, row, 36);
  const name = make("span", "dgcl-label", classChip(scene, c), className(scene, c));
  // a neighbour that the filter hides is one nonetheless
  const text = cosine.toFixed(3) + (points.shown[row] ? "" : " (hidden)");
  return make("li", "", ...(isDrawn ? [crop] : []), name, make("span", "dgcl-value", text));
}

function missingNote(isPage) {
  const text = isPage
    ? "Python finds the neighbours among so many cells, and this page has no Python behind it."
    : "Asking Python for the neighbours … (this needs a running kernel)";
  return make("p", "dgcl-note", text);
}

function nearParts(app, points, i, { rows, cosines }) {
  const list = make("ol", "dgcl-near");
  let same = 0;
  for (let j = 0; j < rows.length; j++) {
    if (points.kind[rows[j]] === points.kind[i]) same++;
    list.append(neighbourLine(app, points, rows[j], cosines[j]));
  }
  const text = rows.length
    ? `Its ${rows.length} nearest by cosine of features, itself left out: ${same} of its class.`
    : "There is no other cell.";
  return [make("p", "dgcl-note", text), list];
}

export function showNeighbours(app, points) {
  const { nearBox, clicked } = app;
  app.near = null;
  nearBox.hidden = clicked < 0;
  if (clicked < 0) {
    nearBox.replaceChildren();
    return;
  }
  app.near = neighboursOf(app, points, clicked);
  const found = app.near
    ? nearParts(app, points, clicked, app.near)
    : [missingNote(app.model.isPage)];
  nearBox.replaceChildren(...clickedParts(app, points, clicked), ...found);
}

// Lines from the clicked point to its neighbours, be they far in the layout or hidden by the filter.
export function drawNear(app, pen) {
  const { px, py, near, clicked } = app;
  if (clicked < 0) return;
  const rows = near ? near.rows : [];
  const [x, y] = [px[clicked], py[clicked]];
  pen.strokeStyle = app.ink;
  pen.lineWidth = 1.2;
  pen.beginPath();
  for (const row of rows) {
    pen.moveTo(x, y);
    pen.lineTo(px[row], py[row]);
  }
  pen.stroke();
  pen.beginPath();
  for (const row of rows) {
    pen.moveTo(px[row] + 5, py[row]);
    pen.arc(px[row], py[row], 5, 0, 7);
  }
  pen.stroke();
  pen.lineWidth = 2.5;
  pen.beginPath();
  pen.arc(x, y, 8, 0, 7);
  pen.stroke();
}
