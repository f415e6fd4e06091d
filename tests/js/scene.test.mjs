// The scene as columns of each step.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bounds, unpack } from "../../dgcl_nb/static/explorer/scene.js";
import { dataView, IGNORE } from "./helpers.mjs";

// Two points at step 1, one at step 2.
function packedScene() {
  const columns = {
    xy: Float32Array.of(0, 1, 2, 3, 4, 5),
    label: Uint8Array.of(0, IGNORE, 2),
    pseudo: Uint8Array.of(0, 1, 1),
    density: Float32Array.of(0.5, NaN, 1),
    confidence: Float32Array.of(1, 1, 1),
    image: Int16Array.of(0, -1, 1),
    row: Uint16Array.of(1, 2, 3),
    col: Uint16Array.of(4, 5, 6),
    role: Uint8Array.of(0, 1, 2),
    near: Uint16Array.of(1, 0),
    cosines: Int16Array.of(32767, 32767),
    thumbs: Uint8Array.of(1, 2, 3)
  };
  const steps = [{ step: 1, n: 2, k: 1 }, { step: 2, n: 1, k: 0 }];
  const bytes = Object.entries(columns).map(([name, array]) => [name, dataView(array)]);
  return { steps, ignore: IGNORE, layout: "PCA", image_ids: ["a", "b"], ...Object.fromEntries(bytes) };
}

test("unpack: each step has its own part of each column", () => {
  const { steps, layout, thumbs } = unpack(packedScene());
  assert.deepEqual(steps.map((points) => [...points.xy]), [[0, 1, 2, 3], [4, 5]]);
  assert.deepEqual(steps.map((points) => [...points.row]), [[1, 2], [3]]);
  assert.deepEqual(steps.map((points) => [...points.near]), [[1, 0], []]);
  assert.deepEqual([layout, [...thumbs]], ["PCA", [1, 2, 3]]);
});

test("unpack: the class that filters go by, right or wrong or not known, and a number for the cell", () => {
  const [first, second] = unpack(packedScene()).steps;
  assert.deepEqual([[...first.kind], [...second.kind]], [[0, 1], [2]]);
  assert.deepEqual([[...first.right], [...second.right]], [[1, -1], [0]]);
  assert.deepEqual([...first.key], [65536 + 4, 2 ** 52 + 2 ** 21 + 1]);
  assert.deepEqual([...second.key], [(65536 + 3) * 65536 + 6]);
});

test("unpack: a cell keeps its number where another scene numbers the images otherwise", () => {
  const before = unpack(packedScene());
  const after = unpack({ ...packedScene(), image_ids: ["new", "a"] }, before.known);
  assert.deepEqual([...after.steps[1].key], [3 * 65536 + 6]); // of image a, which was number 0
  assert.equal(after.steps[0].key[0], (2 * 65536 + 1) * 65536 + 4);
  assert.equal(after.steps[0].key[1], before.steps[0].key[1]); // of no image: the row in its step
});

test("unpack: without bytes there are no points", () => {
  const { steps, box } = unpack({ steps: [{ step: 1, n: 0, k: 0 }], ignore: IGNORE });
  assert.deepEqual([steps[0].n, steps[0].label.length, box], [0, 0, [0, 1, 0, 1]]);
});

test("bounds: around the points of all steps", () => {
  const steps = [{ n: 1, xy: [3, -1] }, { n: 2, xy: [0, 5, 2, 2] }];
  assert.deepEqual(bounds(steps), [0, 3, -1, 5]);
});
