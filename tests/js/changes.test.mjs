// Two runs, cell by cell: sorted by what became of their density.
import assert from "node:assert/strict";
import { test } from "node:test";
import { changeValues, sortedByShift, tallyChanges } from "../../dgcl_nb/static/explorer/changes.js";
import { CHANGES } from "../../dgcl_nb/static/explorer/names.js";
import { paintOf, tableOf } from "../../dgcl_nb/static/explorer/paint.js";
import { unpack } from "../../dgcl_nb/static/explorer/scene.js";
import { dataView, IGNORE, makePoints } from "./helpers.mjs";

const ROWS = [0, 1, 2, 3];

function pairedPoints() {
  const columns = { change: Uint8Array.of(1, 2, 1, 255), shift: Float32Array.of(0.5, -0.25, -0.5, NaN) };
  return makePoints(4, columns);
}

test("sorted: by the change of density, unknown ones left out, of one kind or of all", () => {
  assert.deepEqual(sortedByShift(pairedPoints(), ROWS, -1, "fall"), [2, 1, 0]);
  assert.deepEqual(sortedByShift(pairedPoints(), ROWS, -1, "rise"), [0, 1, 2]);
  assert.deepEqual(sortedByShift(pairedPoints(), ROWS, 1, "fall"), [2, 0]);
});

test("tally: how many of each kind, and the mean change of their density", () => {
  const [same, worse, better, wrong] = tallyChanges(pairedPoints(), ROWS);
  assert.deepEqual([worse.count, worse.shift, better.count, better.shift], [2, 0, 1, -0.25]);
  assert.deepEqual([same.count, wrong.count, Number.isNaN(same.shift)], [0, 0, true]);
});

test("values: told of a cell of two runs only", () => {
  const told = changeValues(pairedPoints(), 1);
  assert.deepEqual(told, [["change", "wrong → right"], ["change of density", "−0.250"]]);
  assert.equal(changeValues(pairedPoints(), 3)[0][1], "unknown");
  assert.deepEqual(changeValues(makePoints(1), 0), []);
});

test("paint: a colour for each kind, grey where nothing is known", () => {
  const table = tableOf({ palette: [] }, "change");
  assert.deepEqual(paintOf({}, pairedPoints(), "change"), pairedPoints().change);
  assert.deepEqual(CHANGES.map((_, kind) => table[kind]), CHANGES.map(([, rgb]) => rgb));
  assert.deepEqual(table[255], [150, 150, 150]);
});

test("scene: each run has its part of the columns; what nobody said is neither right nor wrong", () => {
  const columns = {
    label: Uint8Array.of(0, 0),
    pseudo: Uint8Array.of(IGNORE, 0),
    change: Uint8Array.of(1, 2),
    shift: Float32Array.of(0.5, 0.25)
  };
  const bytes = Object.entries(columns).map(([name, array]) => [name, dataView(array)]);
  const steps = [{ step: 1, n: 1, k: 0, name: "A" }, { step: 1, n: 1, k: 0, name: "B" }];
  const scene = unpack({ steps, ignore: IGNORE, compared: true, ...Object.fromEntries(bytes) });
  assert.deepEqual(scene.steps.map(({ name, change }) => [name, ...change]), [["A", 1], ["B", 2]]);
  assert.deepEqual(scene.steps.map(({ right }) => right[0]), [-1, 1]);
  assert.deepEqual([scene.said, scene.hasRoles], ["pseudo-label", false]);
});
