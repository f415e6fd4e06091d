// Density by rank, and the words at the ends of a scale.
import assert from "node:assert/strict";
import test from "node:test";
import { ENDS, MEANING } from "../../dgcl_nb/static/front/ends.js";
import { RANKS, rangeOfRanks, ranksOf, sortedDensity } from "../../dgcl_nb/static/explorer/ranks.js";
import { filterPoints } from "../../dgcl_nb/static/explorer/filter.js";
import { makePoints } from "./helpers.mjs";

const SORTED = Float32Array.from({ length: 101 }, (_, i) => i / 101);

function shownBy(points, range) {
  return filterPoints(points, range, null, null).count;
}

test("ranks: unknown densities have none", () => {
  const points = makePoints(4, { density: Float32Array.of(0.5, NaN, 0.1, 0.3) });
  assert.deepEqual([...sortedDensity(points)].map((v) => v.toFixed(1)), ["0.1", "0.3", "0.5"]);
  assert.equal(sortedDensity(points), sortedDensity(points));
});

test("ranks: the sparsest 20 % are a fifth of the cells, however the values lie", () => {
  const density = SORTED.map((value) => 0.9 + 0.1 * value ** 3);
  const points = makePoints(101, { density });
  const range = rangeOfRanks(sortedDensity(points), 0, 20);
  assert.equal(shownBy(points, range), 21);
  assert.deepEqual(ranksOf(sortedDensity(points), range), [0, 21]);
  assert.equal(shownBy(points, rangeOfRanks(sortedDensity(points), 80, 100)), 21);
});

test("ranks: all is no condition, and nothing known has no rank", () => {
  assert.equal(rangeOfRanks(SORTED, 0, 100), null);
  assert.deepEqual(ranksOf(SORTED, null), [0, 100]);
  assert.equal(rangeOfRanks(new Float32Array(0), 0, 20), null);
  assert.equal(ranksOf(new Float32Array(0), [0, 1]), null);
});

test("ranks: every choice differs from every other", () => {
  const ranges = RANKS.map(([from, to]) => String(rangeOfRanks(SORTED, from, to)));
  assert.equal(new Set(ranges).size, RANKS.length);
});

test("words: each scale has two ends and a meaning", () => {
  assert.deepEqual(ENDS.density, ["sparse", "dense"]);
  for (const name of Object.keys(ENDS)) assert.ok(ENDS[name].length === 2 && MEANING[name]);
});
