// One drawing of the whole view: the points, and what lies over them.
import { css, themeColour } from "../front/colours.js";
import { make } from "../front/elements.js";
import { drawJoins } from "./changes.js";
import { filterPoints } from "./filter.js";
import { drawNear, showNeighbours } from "./near.js";
import { drawPane } from "./picture.js";
import { drawPoints, placePoints } from "./points.js";
import { drawRoles } from "./roles.js";
import { dimmed } from "./selection.js";
import { showSummary } from "./summary.js";
import { advance } from "./time.js";
import { thousands } from "./words.js";

function drawLasso(app, pen, path) {
  pen.strokeStyle = app.ink;
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 4]);
  pen.beginPath();
  for (const [x, y] of path) pen.lineTo(x, y);
  pen.closePath();
  pen.fillStyle = "rgba(128,128,128,.15)";
  pen.fill();
  pen.stroke();
  pen.setLineDash([]);
}

function drawHovered(app, pen) {
  const { px, py, hovered } = app;
  pen.strokeStyle = app.ink;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(px[hovered], py[hovered], 7, 0, 7);
  pen.stroke();
}

// What lies over the points: lines to neighbours, the ring of the hovered point, the lasso. On paper it
// is drawn into the picture itself: a printed canvas is what was done to it, and clearing the one above
// would take the points below away.
export function markAll(app) {
  const { ratio, isPaper } = app;
  const pen = isPaper ? app.pen : app.over.getContext("2d");
  pen.save();
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (!isPaper) pen.clearRect(0, 0, app.width, app.height);
  drawMarks(app, pen);
  pen.restore();
}

function drawMarks(app, pen) {
  drawNear(app, pen);
  drawJoins(app, pen);
  if (app.hovered >= 0) drawHovered(app, pen);
  const path = app.drag?.path;
  if (path) drawLasso(app, pen, path);
  drawPane(app);
}

function unknownText(unknown) {
  if (!unknown) return "";
  return `Density unknown: ${thousands(unknown)} cells (grey when coloured by density). ` +
    "They are shown only while the density slider covers its whole range.";
}

// The step, and what the filter asks for: two filters may show as many points, and not the same ones.
function filterKey(app) {
  const names = ["density_range", "confidence_range", "classes"];
  return JSON.stringify([app.now, ...names.map((name) => app.model.get(name))]);
}

// Numbers beside the picture that depend on the filter.
function showCounts(app, points, { count, unknown, perClass }) {
  app.classBox.count(perClass);
  app.count.replaceChildren(make("b", "", thousands(count)), ` of ${thousands(points.n)} cells shown`);
  app.unknown.textContent = unknownText(unknown);
  const key = filterKey(app);
  if (app.counted === key) return;
  app.counted = key;
  app.changes.refresh();
  if (app.selected.size) showSummary(app, points);
  if (app.clicked >= 0) showNeighbours(app, points);
}

export function paintAll(app) {
  const points = app.points();
  const { model, root } = app;
  app.ground = themeColour(root, "--ground", "#ffffff");
  app.ink = css(themeColour(root, "--ink", "#222222"));
  if (app.move) advance(app);
  const ranges = [model.get("density_range"), model.get("confidence_range")];
  const counts = filterPoints(points, ...ranges, model.get("classes"));
  app.dim = dimmed(app, points);
  placePoints(app, points);
  drawPoints(app, points);
  if (model.get("show_roles")) drawRoles(app, points);
  showCounts(app, points, counts);
  if (app.hovered >= 0 && !points.shown[app.hovered]) {
    app.hovered = -1;
    app.tip.hidden = true;
  }
  markAll(app);
  app.draws++;
  root.dataset.draws = app.draws;
  root.dataset.shown = counts.count;
}
