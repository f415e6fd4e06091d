// From an image to points: which cells lie in a box, or under a brush.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  inBox, pointNear, pointsInside, pointsOfImage, underBrush
} from "../../dgcl_nb/static/explorer/region.js";
import { boxOfCursor } from "../../dgcl_nb/static/explorer/sketch.js";
import { makePoints } from "./helpers.mjs";

// Image 0 has the cells (0, 0), (0, 1), (2, 3); image 1 has (0, 0); the last point has no image.
function somePoints() {
  return makePoints(5, {
    image: Int16Array.of(0, 0, 1, 0, -1),
    row: Uint16Array.of(0, 0, 0, 2, 0),
    col: Uint16Array.of(0, 1, 0, 3, 0)
  });
}

test("box: touches every cell that it overlaps, whichever corner came first", () => {
  for (const corners of [[[0.5, 0.5], [1.5, 0.9]], [[1.5, 0.9], [0.5, 0.5]]]) {
    assert.deepEqual(pointsInside(somePoints(), 0, inBox(corners)), [0, 1]);
  }
  assert.deepEqual(pointsInside(somePoints(), 0, inBox([[1, 0], [4, 3]])), [1, 3]);
  assert.deepEqual(pointsInside(somePoints(), 1, inBox([[0, 0], [9, 9]])), [2]);
});

test("box: hidden points are not chosen", () => {
  const points = somePoints();
  points.shown[1] = 0;
  assert.deepEqual(pointsInside(points, 0, inBox([[0, 0], [9, 9]])), [0, 3]);
});

test("brush: touches the cells along its way, between the places that were noted, too", () => {
  const along = underBrush([[0.5, 0.5], [3.5, 2.5]], 0.4);
  assert.ok(along(0, 0) && along(2, 3));
  assert.ok(!along(0, 3) && !along(0, 1));
  const dot = underBrush([[0.5, 0.5]], 1.1);
  assert.ok(dot(0, 1) && dot(0, 0) && !dot(2, 3));
});

test("click: the nearest cell in reach", () => {
  assert.equal(pointNear(somePoints(), 0, [1.2, 0.5]), 1);
  assert.equal(pointNear(somePoints(), 0, [2.9, 1]), -1);
  assert.equal(pointNear(somePoints(), 7, [0, 0]), -1);
  assert.deepEqual(pointsOfImage(somePoints(), 7), []);
});

test("keys: a box between where one began and where one is, both cells within", () => {
  assert.deepEqual(boxOfCursor({ row: 2, col: 1, start: { row: 0, col: 3 } }), [[1, 0], [4, 3]]);
  assert.deepEqual(boxOfCursor({ row: 2, col: 1, start: null }), [[1, 2], [2, 3]]);
});
