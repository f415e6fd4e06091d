// Selections: their numbers, their images, their file, and the way to another step.
import assert from "node:assert/strict";
import { test } from "node:test";
import { csvOf } from "../../dgcl_nb/static/explorer/csv.js";
import { neighboursOf } from "../../dgcl_nb/static/explorer/near.js";
import { dimmed, shownRows, summarise } from "../../dgcl_nb/static/explorer/selection.js";
import { rowsByImage } from "../../dgcl_nb/static/explorer/strip.js";
import { beginnings, carryOver, eased } from "../../dgcl_nb/static/explorer/time.js";
import { stepText } from "../../dgcl_nb/static/explorer/play.js";
import { className, fixed, percent, thousands, valuesOf } from "../../dgcl_nb/static/explorer/words.js";
import { IGNORE, makePoints } from "./helpers.mjs";

const SCENE = {
  class_names: ["a", 'b, "c"'],
  ignore: IGNORE,
  roles: ["none", "anchor"],
  hasRoles: true,
  said: "pseudo-label",
  image_ids: ["im0", "im1"],
  grid: [4, 8],
  image_size: [16, 32]
};

test("summary: means over what is known, the class mix in order", () => {
  const points = makePoints(4, {
    density: Float32Array.of(0.5, NaN, 1, 0),
    confidence: Float32Array.of(1, 0.5, 0.5, 0),
    right: Int8Array.of(1, -1, 0, 1),
    kind: Uint8Array.of(1, 0, 1, 0)
  });
  const summary = summarise(points, [0, 1, 2]);
  assert.deepEqual([summary.n, summary.density, summary.right], [3, 0.75, 0.5]);
  assert.deepEqual(summary.mix, [[1, 2], [0, 1]]);
  assert.ok(Math.abs(summary.confidence - 2 / 3) < 1e-9);
  const nothing = summarise(points, [1]);
  assert.deepEqual([fixed(nothing.density), percent(nothing.right)], ["unknown", "unknown"]);
});

test("dimmed: all but a class, all but the selected, or none", () => {
  const points = makePoints(3, { kind: Uint8Array.of(0, 1, 1) });
  assert.equal(dimmed({ emphasis: -1, selected: new Set() }, points), null);
  assert.deepEqual([...dimmed({ emphasis: 1, selected: new Set([0]) }, points)], [1, 0, 0]);
  assert.deepEqual([...dimmed({ emphasis: -1, selected: new Set([0]) }, points)], [0, 1, 1]);
  points.shown[1] = 0;
  assert.deepEqual(shownRows(points), [0, 2]);
});

test("images: those with most selected cells first; those that were not kept are counted", () => {
  const points = makePoints(4, { image: Int16Array.of(0, 1, 1, -1) });
  assert.deepEqual(rowsByImage(points, [0, 1, 2, 3]), { order: [[1, [1, 2]], [0, [0]]], lost: 1 });
});

test("csv: empty where it is not known, quotes where they are needed", () => {
  const points = makePoints(2, {
    label: Uint8Array.of(IGNORE, 1),
    pseudo: Uint8Array.of(0, 1),
    right: Int8Array.of(-1, 1),
    density: Float32Array.of(NaN, 0.1),
    image: Int16Array.of(-1, 1),
    row: Uint16Array.of(0, 2),
    col: Uint16Array.of(0, 3)
  });
  const lines = csvOf(SCENE, points, [0, 1]).split("\r\n");
  assert.equal(lines[0].split(",").length, 15);
  assert.equal(lines[1], "7,0,0,0,,0,0,2,2,,a,,,0,none");
  assert.equal(lines[2], '7,1,0,0,im1,2,3,14,10,"b, ""c""","b, ""c""",yes,0.1,0,none');
  assert.equal(lines.at(-1), "");
  const imageless = csvOf({ ...SCENE, image_size: [0, 0] }, points, [1]).split("\r\n");
  assert.match(imageless[1], /^7,1,0,0,im1,2,3,,,/);
});

test("percent: a few are not none, and all but a few are not all", () => {
  assert.deepEqual([0, 0.5, 1].map(percent), ["0.0 %", "50.0 %", "100.0 %"]);
  assert.deepEqual([0.0004, 0.9996].map(percent), ["< 0.1 %", "> 99.9 %"]);
});

test("words: what is not known is called so", () => {
  const points = makePoints(1, { label: Uint8Array.of(IGNORE), right: Int8Array.of(-1) });
  points.density[0] = NaN;
  points.image = Int16Array.of(-1);
  const words = Object.fromEntries(valuesOf(SCENE, points, 0).map(([name, text]) => [name, text]));
  assert.deepEqual([words["true class"], words.density], ["unknown", "unknown"]);
  assert.deepEqual([words["pseudo-label"], words.image], ["a", "not kept in the snapshot"]);
  assert.deepEqual([className(SCENE, 7), thousands(1234567)], ["class 7", "1 234 567"]);
});

test("neighbours: of the page, of Python for this point and step only, of a lone point", () => {
  const near = { near: Uint16Array.of(1, 0), cosines: Int16Array.of(32767, 16384), k: 1 };
  const points = makePoints(2, near);
  const model = { get: () => ({ row: 1, step: 7, rows: [0], cosines: [0.5] }) };
  assert.deepEqual([...neighboursOf({ model }, points, 0).rows], [1]);
  assert.deepEqual([...neighboursOf({ model }, points, 0).cosines], [1]);
  const many = makePoints(2);
  assert.equal(neighboursOf({ model }, many, 0), null);
  assert.deepEqual(neighboursOf({ model }, many, 1).rows, [0]);
  assert.equal(neighboursOf({ model }, makePoints(2, { step: 8 }), 1), null);
  assert.deepEqual(neighboursOf({ model: { get: () => ({}) } }, makePoints(1), 0).rows, []);
});

test("time: rows follow their cells; what has no cell, or none there, is left out", () => {
  const before = makePoints(3, { key: Float64Array.of(10, 20, -1) });
  const after = makePoints(3, { key: Float64Array.of(-1, 30, 10) });
  assert.deepEqual(carryOver([0, 1, 2], before, after), [2]);
  assert.deepEqual(carryOver([1, 2], before, before), [1, 2]);
});

test("time: a point begins where it is drawn now, a new one at its own place", () => {
  const before = makePoints(1, { key: Float64Array.of(10) });
  const after = makePoints(2, { key: Float64Array.of(30, 10), xy: Float32Array.of(1, 1, 2, 2) });
  const { from, isNew } = beginnings(before, after, [8, 9]);
  assert.deepEqual([[...from], [...isNew]], [[1, 1, 8, 9], [1, 0]]);
  assert.deepEqual([eased(0), eased(0.5), eased(1)], [0, 0.5, 1]);
});

test("stepText: a step is a name, not an amount, and is written as the other views write it", () => {
  const steps = [{ step: 500 }, { step: 1000 }, { step: 0, name: "runs/B" }];
  assert.equal(stepText(steps, 1), "1000 (2 of 3)");
  assert.equal(stepText(steps, 2), "runs/B (3 of 3)");
  assert.equal(stepText(steps, 3), "");
});
