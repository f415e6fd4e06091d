// Mouse, pen, finger and keys on the image: a region is drawn, and its cells are chosen.
import { throttle } from "../front/draw.js";
import { isAnother } from "./pointer.js";
import { inBox, pointNear, pointsInside, underBrush } from "./region.js";

export const BRUSH = 14; // CSS pixels, the radius
const SKETCH_REACH = 4; // CSS pixels: who moved less has clicked
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// The place of an event, in cells.
function cellPlace(pane, event) {
  const box = pane.canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / pane.cellWidth, (event.clientY - box.top) / pane.cellHeight];
}

// The rows in the region so far. What a brush has touched stays touched: only its last stretch is asked.
function rowsOfRegion(app, pane) {
  const { region, image } = pane;
  const { tool, path, radius, touched } = region;
  if (tool === "box") return pointsInside(app.points(), image, inBox([path[0], path[path.length - 1]]));
  const stretch = path.slice(Math.max(0, region.asked - 1));
  region.asked = path.length;
  for (const i of pointsInside(app.points(), image, underBrush(stretch, radius))) touched.add(i);
  return [...touched];
}

// The chosen points while a region is drawn: those in it, and those before where Shift is held.
function previewRegion(app, pane) {
  const { region } = pane;
  if (!region || region.isClick) return; // it ended before the frame came
  const found = rowsOfRegion(app, pane);
  app.selected = new Set(region.adds ? [...region.before, ...found] : found);
  app.draw();
}

function endRegion(app, pane, isGivenUp) {
  const { region } = pane;
  const found = isGivenUp || region.isClick ? [] : rowsOfRegion(app, pane);
  pane.region = null;
  app.selected = new Set(region.before);
  if (isGivenUp) {
    app.draw();
  } else if (region.isClick) {
    app.click(pointNear(app.points(), pane.image, region.path[0]));
    app.draw();
  } else {
    app.choose(found, region.adds);
  }
}

function listenToHand(app, pane) {
  const { canvas } = pane;
  const preview = throttle(() => previewRegion(app, pane));
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0 || isAnother(pane.region, event)) return;
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    const path = [cellPlace(pane, event)];
    const from = [event.clientX, event.clientY];
    const own = { tool: pane.tool, radius: BRUSH / pane.cellWidth, adds: event.shiftKey };
    own.pointer = event.pointerId;
    pane.cursor = null;
    const brushed = { touched: new Set(), asked: 0 };
    pane.region = { ...own, ...brushed, path, from, before: [...app.selected], isClick: true };
  });
  canvas.addEventListener("pointermove", (event) => {
    const { region } = pane;
    if (isAnother(region, event)) return;
    if (!region) {
      app.hover(pointNear(app.points(), pane.image, cellPlace(pane, event)));
      return;
    }
    const [x, y] = region.from;
    if (region.isClick && Math.hypot(event.clientX - x, event.clientY - y) >= SKETCH_REACH) {
      region.isClick = false;
      app.hover(-1); // what is told of one cell would hide those that light up
    }
    region.path.push(cellPlace(pane, event));
    if (!region.isClick) preview();
  });
  const end = (event) => {
    if (!pane.region || isAnother(pane.region, event)) return;
    endRegion(app, pane, event.type === "pointercancel");
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => {
    if (!pane.region) app.hover(-1);
  });
}

// The cell of the keyboard: an arrow moves it, with Shift a box grows from where it was.
function moveCursor(app, pane, [down, right], grows) {
  const [rows, cols] = app.scene.grid;
  const inside = (value, count) => Math.min(Math.max(value, 0), count - 1);
  const at = pane.cursor || { row: Math.floor(rows / 2), col: Math.floor(cols / 2) };
  const moved = pane.cursor
    ? { row: inside(at.row + down, rows), col: inside(at.col + right, cols) }
    : at;
  const start = grows ? at.start || { row: at.row, col: at.col } : null;
  pane.cursor = { ...moved, start };
  app.hover(pointNear(app.points(), pane.image, [moved.col + 0.5, moved.row + 0.5], 0.1));
  app.mark();
}

// The box between where the keyboard began and where it is.
export function boxOfCursor({ row, col, start }) {
  const from = start || { row, col };
  const [top, bottom] = [Math.min(row, from.row), Math.max(row, from.row)];
  const [left, right] = [Math.min(col, from.col), Math.max(col, from.col)];
  return [[left, top], [right + 1, bottom + 1]];
}

function enterCursor(app, pane, adds) {
  if (!pane.cursor) return;
  const points = app.points();
  if (pane.cursor.start) {
    app.choose(pointsInside(points, pane.image, inBox(boxOfCursor(pane.cursor))), adds);
    return;
  }
  app.click(pointNear(points, pane.image, [pane.cursor.col + 0.5, pane.cursor.row + 0.5], 0.1));
}

function listenToCellKeys(app, pane) {
  pane.canvas.addEventListener("keydown", (event) => {
    const way = MOVES[event.key];
    if (way) moveCursor(app, pane, way, event.shiftKey);
    else if (event.key === "Enter" || event.key === " ") enterCursor(app, pane, event.shiftKey);
    else if (event.key === "Escape" && pane.region) endRegion(app, pane, true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

export function listenToSketch(app, pane) {
  listenToHand(app, pane);
  listenToCellKeys(app, pane);
}
