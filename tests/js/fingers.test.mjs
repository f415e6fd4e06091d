// A second finger while the first one draws: it changes nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { listenToPointer } from "../../dgcl_nb/static/explorer/pointer.js";
import { listenToSketch } from "../../dgcl_nb/static/explorer/sketch.js";
import { makePoints } from "./helpers.mjs";

// A canvas that is told what fingers do: tell("move", 1, x, y) is of finger number 1.
function fakeCanvas() {
  const calls = {};
  const node = { setPointerCapture() {}, focus() {}, getBoundingClientRect: () => ({ left: 0, top: 0 }) };
  node.addEventListener = (name, fn) => {
    calls[name] = fn;
  };
  node.tell = (what, pointerId, clientX, clientY) => {
    const type = `pointer${what}`;
    calls[type]({ type, button: 0, pointerId, isPrimary: pointerId === 1, clientX, clientY });
  };
  return node;
}

// Two points, at (5, 5) and (50, 5) of the picture and in the cells (0, 0) and (0, 2) of the image.
function fakeApp() {
  const points = makePoints(2, { col: Uint16Array.of(0, 2) });
  const app = { points: () => points, px: [5, 50], py: [5, 5], width: 100, height: 100, selected: new Set() };
  Object.assign(app, { said: [], hovered: -1, drag: null, draw() {}, mark() {}, hover() {} });
  app.click = (i) => app.said.push(["click", i]);
  app.choose = (rows) => app.said.push(["choose", ...rows]);
  return app;
}

function drawWithTwo(canvas) {
  canvas.tell("down", 1, 1, 1);
  canvas.tell("move", 1, 20, 1);
  canvas.tell("down", 2, 49, 4);
  canvas.tell("move", 2, 50, 4);
  canvas.tell("up", 2, 50, 4);
  canvas.tell("move", 1, 20, 20);
  canvas.tell("move", 1, 1, 20);
  canvas.tell("up", 1, 1, 20);
}

test("lasso: goes on while another finger touches the picture", () => {
  globalThis.requestAnimationFrame = () => 1;
  const app = Object.assign(fakeApp(), { over: fakeCanvas() });
  listenToPointer(app);
  drawWithTwo(app.over);
  assert.deepEqual([app.said, app.drag], [[["choose", 0]], null]);
});

test("lasso: whose end was missed is begun anew", () => {
  const app = Object.assign(fakeApp(), { over: fakeCanvas() });
  listenToPointer(app);
  app.over.tell("down", 7, 1, 1);
  drawWithTwo(app.over);
  assert.deepEqual(app.said, [["choose", 0]]);
});

test("box: goes on while another finger touches the image", () => {
  const pane = { image: 0, tool: "box", region: null, cellWidth: 20, cellHeight: 20, canvas: fakeCanvas() };
  const app = fakeApp();
  listenToSketch(app, pane);
  drawWithTwo(pane.canvas);
  assert.deepEqual([app.said, pane.region], [[["choose", 0]], null]);
});
