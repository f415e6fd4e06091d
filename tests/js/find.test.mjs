// Which point is at a place, next to another, or inside a line.
import assert from "node:assert/strict";
import { test } from "node:test";
import { makeIndex, pointAt, pointTowards } from "../../dgcl_nb/static/explorer/find.js";
import { insideOf, isInside } from "../../dgcl_nb/static/explorer/lasso.js";
import { makePoints, numbers } from "./helpers.mjs";

const SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]];

// Points all over a picture of 200 x 100, some of them hidden, and some outside of it.
function scatter(n, seed) {
  const next = numbers(seed);
  const px = Float32Array.from({ length: n }, () => next() * 220 - 10);
  const py = Float32Array.from({ length: n }, () => next() * 120 - 10);
  const points = makePoints(n, { shown: Uint8Array.from({ length: n }, () => Number(next() > 0.3)) });
  return { points, app: { px, py, width: 200, height: 100, index: null } };
}

function slowNearest({ points, app }, x, y, reach) {
  let best = -1;
  let least = reach * reach;
  for (let i = 0; i < points.n; i++) {
    const isInPicture = app.px[i] >= 0 && app.py[i] >= 0 && app.px[i] < 200 && app.py[i] < 100;
    const distance = (app.px[i] - x) ** 2 + (app.py[i] - y) ** 2;
    if (!points.shown[i] || !isInPicture || distance > least) continue;
    least = distance;
    best = i;
  }
  return best;
}

test("index: each shown point of the picture in one square", () => {
  const { points, app } = scatter(500, 3);
  const { members, start } = makeIndex(app, points);
  const isInPicture = (i) => app.px[i] >= 0 && app.py[i] >= 0 && app.px[i] < 200 && app.py[i] < 100;
  const wanted = [...points.shown.keys()].filter((i) => points.shown[i] && isInPicture(i));
  assert.deepEqual([...members].sort((a, b) => a - b), wanted);
  assert.equal(start.at(-1), wanted.length);
});

test("pointAt: what a search through all points finds", () => {
  const given = scatter(400, 5);
  const next = numbers(9);
  let found = 0;
  for (let trial = 0; trial < 300; trial++) {
    const [x, y] = [next() * 200, next() * 100];
    const row = pointAt(given.app, given.points, x, y);
    assert.equal(row, slowNearest(given, x, y, 12));
    if (row >= 0) found++;
  }
  assert.ok(found > 100);
});

test("pointAt: nothing in reach, and nothing outside the picture", () => {
  const { points, app } = scatter(0, 1);
  assert.equal(pointAt(app, points, 50, 50), -1);
  const one = scatter(50, 2);
  assert.equal(pointAt(one.app, one.points, -99, -99), -1);
});

test("pointTowards: the next one ahead, hidden ones left out, -1 at the edge", () => {
  const app = { px: [10, 20, 30, 20], py: [10, 10, 10, 40], width: 100, height: 100 };
  const points = makePoints(4);
  assert.equal(pointTowards(app, points, 0, 1, 0), 1);
  assert.equal(pointTowards(app, points, 1, 1, 0), 2);
  assert.equal(pointTowards(app, points, 2, 1, 0), -1);
  assert.equal(pointTowards(app, points, 1, 0, 1), 3);
  points.shown[1] = 0;
  assert.equal(pointTowards(app, points, 0, 1, 0), 2);
});

test("pointTowards: begins in the middle where no point is hovered", () => {
  const app = { px: [60, 90], py: [50, 50], width: 100, height: 100 };
  assert.equal(pointTowards(app, makePoints(2), -1, 1, 0), 0);
});

test("isInside: a square, and a star whose middle counts as outside", () => {
  assert.equal(isInside(SQUARE, 5, 5), true);
  assert.equal(isInside(SQUARE, 15, 5), false);
  assert.equal(isInside([], 0, 0), false);
  const corner = (k) => [Math.sin(k * Math.PI * 0.4), -Math.cos(k * Math.PI * 0.4)];
  const star = [0, 2, 4, 1, 3].map(corner);
  assert.equal(isInside(star, 0, 0), false);
  assert.equal(isInside(star, 0, -0.7), true);
});

test("insideOf: the shown points only", () => {
  const app = { px: [5, 6, 50], py: [5, 5, 5] };
  const points = makePoints(3, { shown: Uint8Array.of(1, 0, 1) });
  assert.deepEqual(insideOf(app, points, SQUARE), [0]);
});
