// An image on which one draws: the cells of the region light up among the points. And back: chosen,
// clicked and hovered points are framed in it.
import { choice, fillOptions } from "../front/choice.js";
import { hiDpi } from "../front/draw.js";
import { explain, make } from "../front/elements.js";
import { fillCells } from "./cells.js";
import { paintOf } from "./paint.js";
import { pointsOfImage, pointsOfImages } from "./region.js";
import { boxOfCursor, BRUSH, listenToSketch } from "./sketch.js";
import { frame, isFramed, pictureOf } from "./thumbs.js";

const LONGEST = 248; // CSS pixels, of the longer side
const TOOLS = [["box", "a box"], ["brush", "a brush"]];
const HINT = "Draw on the image: its cells light up among the points (Shift adds); a click asks one cell. " +
  "Keys: arrows, Shift + arrows for a box, Enter.";

// The images that have a picture and a point.
function drawnImages(app) {
  const found = [...pointsOfImages(app.points()).keys()].filter((m) => pictureOf(app.scene, m));
  return app.scene.grid[0] ? found.sort((a, b) => a - b) : [];
}

// Dots where there are points; the chosen ones fill their cells.
function drawCells(app, pane, ratio) {
  const points = app.points();
  const paint = paintOf(app.scene, points, app.by);
  const { cellWidth, cellHeight, pen } = pane;
  const size = [cellWidth * ratio, cellHeight * ratio];
  const dot = Math.max(1, Math.min(2, 0.3 * Math.min(cellWidth, cellHeight))) * ratio;
  const colourOf = (i) => app.table[paint[i]];
  const shown = pointsOfImage(points, pane.image).filter((i) => points.shown[i]);
  const chosen = shown.filter((i) => app.selected.has(i));
  const others = chosen.length ? shown.filter((i) => !app.selected.has(i)) : shown;
  fillCells(pen, points, chosen, size, colourOf, 192);
  fillCells(pen, points, others, size, colourOf, 256, dot);
  const frameCell = (i, line) => {
    frame(pen, points.col[i] * cellWidth, points.row[i] * cellHeight, cellWidth, cellHeight, line);
  };
  if (isFramed(cellWidth, cellHeight)) chosen.forEach((i) => frameCell(i, 0.8));
  shown.filter((i) => i === app.clicked || i === app.hovered).forEach((i) => frameCell(i, 2));
}

// A box between two corners, in cells.
function frameBox(pane, pen, [x0, y0], [x1, y1]) {
  const { cellWidth, cellHeight } = pane;
  const [left, top] = [Math.min(x0, x1) * cellWidth, Math.min(y0, y1) * cellHeight];
  frame(pen, left, top, Math.abs(x1 - x0) * cellWidth, Math.abs(y1 - y0) * cellHeight);
}

function drawRegion(pane, pen) {
  const { region, cellWidth, cellHeight, cursor } = pane;
  if (cursor) frameBox(pane, pen, ...boxOfCursor(cursor));
  if (!region) return;
  if (region.tool === "box") {
    frameBox(pane, pen, region.path[0], region.path[region.path.length - 1]);
    return;
  }
  const places = region.path.map(([x, y]) => [x * cellWidth, y * cellHeight]);
  pen.strokeStyle = "rgba(255,255,255,.45)";
  pen.lineWidth = 2 * BRUSH;
  pen.lineCap = "round";
  pen.lineJoin = "round";
  pen.beginPath();
  for (const [x, y] of places) pen.lineTo(x, y);
  pen.stroke();
}

export function drawPane(app) {
  const { pane } = app;
  if (!pane || pane.node.hidden) return;
  const picture = pictureOf(app.scene, pane.image);
  const [height, width] = app.scene.thumb_size;
  const zoom = LONGEST / Math.max(height, width);
  const ratio = hiDpi(pane.canvas, width * zoom, height * zoom);
  pane.cellWidth = (width * zoom) / app.scene.grid[1];
  pane.cellHeight = (height * zoom) / app.scene.grid[0];
  const { pen } = pane;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, 0, 0, width * zoom, height * zoom);
  drawCells(app, pane, ratio);
  drawRegion(pane, pen);
}

function describePane(app, pane) {
  const count = pointsOfImage(app.points(), pane.image).length;
  const name = app.scene.image_ids[pane.image];
  pane.canvas.setAttribute("aria-label", `${name} with ${count} cells; mark a region to select some`);
}

// Shows an image; what is half drawn is given up.
export function showImage(app, m) {
  const { pane } = app;
  Object.assign(pane, { image: m, region: null, cursor: null });
  pane.images.set(String(m));
  describePane(app, pane);
  app.mark();
}

// The image of a clicked point comes into view.
export function followClick(app) {
  const { pane, clicked } = app;
  if (!pane || pane.node.hidden || clicked < 0) return;
  const m = app.points().image[clicked];
  if (m >= 0 && m !== pane.image && pictureOf(app.scene, m)) showImage(app, m);
}

// The list of images, after the points have changed.
function refreshPane(app, pane) {
  const found = drawnImages(app);
  pane.node.hidden = !found.length;
  if (!found.length) return;
  const nameOf = (m) => `${app.scene.image_ids[m]} (${pointsOfImage(app.points(), m).length})`;
  fillOptions(pane.images.input, found.map((m) => [String(m), nameOf(m)]));
  showImage(app, found.includes(pane.image) ? pane.image : found[0]);
}

export function pictureControl(app) {
  const pane = { image: -1, tool: "box", region: null, cursor: null, canvas: make("canvas", "dgcl-sketch") };
  pane.pen = pane.canvas.getContext("2d", { willReadFrequently: true });
  pane.images = choice("Image", [], "", (m) => showImage(app, Number(m)));
  const tools = choice("Draw", TOOLS, pane.tool, (tool) => {
    pane.tool = tool;
  });
  explain(pane.images, "Which image one draws on; in brackets its cells");
  explain(tools, "With what a region of the image is marked");
  pane.canvas.tabIndex = 0;
  pane.canvas.setAttribute("role", "application");
  pane.node = make("div", "dgcl-box dgcl-pane", make("div", "dgcl-pair", pane.images, tools), pane.canvas);
  pane.node.append(make("div", "dgcl-note dgcl-screen", HINT));
  pane.refresh = () => refreshPane(app, pane);
  listenToSketch(app, pane);
  return pane;
}
