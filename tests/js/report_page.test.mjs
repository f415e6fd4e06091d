// What the page of a report does by itself, as far as no browser is needed.
import assert from "node:assert/strict";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { drawFigures, fitted, sayWhyNot } from "../../dgcl_nb/static/report/figures.js";
import { narrowScale } from "../../dgcl_nb/static/front/narrow.js";
import { fitToScreen } from "../../dgcl_nb/static/report/narrow.js";
import { fitToPaper, paperScale } from "../../dgcl_nb/static/report/paper.js";
import { unpack } from "../../dgcl_nb/static/report/unpack.js";

// A figure of a page: its description, and the place where it is drawn.
function makeFigure(description) {
  const canvas = { textContent: "" };
  const parts = { script: { textContent: JSON.stringify(description) }, ".canvas": canvas };
  return { canvas, querySelector: (name) => parts[name] };
}

test("unpack: gives back what was packed, whatever its letters", async () => {
  for (const text of ["", "const a = 1;\n", "größer ≥ 0 ✓", "x".repeat(100_000)]) {
    const packed = gzipSync(Buffer.from(text)).toString("base64");
    assert.equal(await unpack(`\n${packed}\n`), text);
  }
});

test("unpack: refuses what is no gzip", async () => {
  await assert.rejects(unpack(Buffer.from("no gzip at all").toString("base64")));
});

test("fitted: takes the theme, loses its width, and leaves the description alone", () => {
  const layout = { width: 900, height: 420, title: { text: "a" } };
  const shown = fitted(layout, "dark ink");
  assert.equal("width" in shown, false);
  assert.deepEqual([shown.height, shown.title.text, shown.template], [420, "a", "dark ink"]);
  assert.equal(shown.autosize, true);
  assert.equal(layout.width, 900);
});

test("drawFigures: each figure is drawn once, in its own place", async () => {
  const figures = [1, 2].map((y) => makeFigure({ data: [{ y: [y] }], layout: { width: y } }));
  const calls = [];
  const plotly = {
    react: async (...given) => {
      calls.push(given);
    }
  };
  await drawFigures(plotly, figures, "ink", { showSendToCloud: false });
  assert.deepEqual(calls.map(([canvas]) => canvas), figures.map((figure) => figure.canvas));
  assert.deepEqual(calls.map(([, data]) => data[0].y[0]), [1, 2]);
  assert.deepEqual(calls.map(([, , layout]) => layout.template), ["ink", "ink"]);
  assert.deepEqual(calls[0][3], { showSendToCloud: false, responsive: true });
});

test("sayWhyNot: a sentence in place of each figure", () => {
  const figures = [makeFigure({}), makeFigure({})];
  sayWhyNot(figures, new Error("no such thing"));
  for (const { canvas } of figures) {
    assert.match(canvas.textContent, /could not be drawn: no such thing\. A browser of 2023 or later can/);
  }
});

// A box that is to be printed, and whether it shares its sheet with another.
function makeBox(width, height, { tagName = "DIV", shares = false } = {}) {
  const scales = [];
  const style = { setProperty: (name, value) => scales.push(value) };
  const closest = (name) => (shares && name === ".half-sheet" ? {} : null);
  return { scrollWidth: width, offsetWidth: 300, offsetHeight: height, tagName, style, closest, scales };
}

test("fitToPaper: what is too wide, or too high and no table, gets the scale at which it fits", () => {
  const boxes = [makeBox(1400, 90), makeBox(500, 90), makeBox(500, 1600)];
  boxes.push(makeBox(500, 1600, { tagName: "TABLE" }));
  fitToPaper(boxes);
  assert.deepEqual(boxes.flatMap(({ scales }) => scales), [0.5, 1, 0.5, 1]);
  assert.equal(paperScale(700), 1);
});

test("fitToPaper: two figures that share a sheet leave each other room", () => {
  const boxes = [makeBox(500, 680, { shares: true }), makeBox(500, 340, { shares: true })];
  fitToPaper(boxes);
  assert.deepEqual(boxes.flatMap(({ scales }) => scales), [0.5, 1]);
});

test("narrowScale: a figure is made as small as its place, and no smaller than can be read", () => {
  assert.deepEqual([narrowScale(1100, 900), narrowScale(750, 1000), narrowScale(300, 1000)], [1, 0.75, 0.6]);
});

test("fitToScreen: a smaller figure says how much of its height is left over", () => {
  const set = new Map();
  const style = { setProperty: (name, value) => set.set(name, value) };
  const canvas = { style, offsetWidth: 1000, offsetHeight: 400 };
  fitToScreen([{ style, clientWidth: 750, querySelector: () => canvas }]);
  assert.deepEqual([...set.values()], ["clip", 0.75, "100px"]);
  fitToScreen([{ style, clientWidth: 300, querySelector: () => canvas }]);
  assert.deepEqual([...set.values()], ["auto", 0.6, "160px"]);
});
