// Which points are shown, and what the handles of a slider mean.
import assert from "node:assert/strict";
import { test } from "node:test";
import { filterPoints, fromRange, toRange } from "../../dgcl_nb/static/explorer/filter.js";
import { limitsOf, middleOf, niceStep } from "../../dgcl_nb/static/explorer/limits.js";
import { makePoints } from "./helpers.mjs";

const POINTS = makePoints(4, {
  density: Float32Array.of(0.2, 0.5, NaN, 0.9),
  confidence: Float32Array.of(0.5, 0.75, 1, 0.25),
  kind: Uint8Array.of(0, 1, 1, 2)
});

function shown(...conditions) {
  const counts = filterPoints(POINTS, ...conditions);
  return { rows: [...POINTS.shown.keys()].filter((i) => POINTS.shown[i]), ...counts };
}

test("filter: no condition shows all, and counts what is not known", () => {
  const { rows, count, unknown, perClass } = shown(null, null, null);
  assert.deepEqual([rows, count, unknown], [[0, 1, 2, 3], 4, 1]);
  assert.deepEqual([...perClass.slice(0, 3)], [1, 2, 1]);
});

test("filter: both bounds are included, and an unknown density lies in no range", () => {
  assert.deepEqual(shown([-1, 1], null, null).rows, [0, 1, 3]);
  assert.deepEqual(shown([0.5, 0.5], null, null).rows, [1]);
  assert.deepEqual(shown(null, [0.75, 1], null).rows, [1, 2]); // unknown density, no condition on it
});

test("filter: classes, all conditions together, and no class", () => {
  assert.deepEqual(shown(null, null, [1]).rows, [1, 2]);
  assert.deepEqual(shown([0, 1], [0.5, 1], [0, 1]).rows, [0, 1]);
  const { rows, unknown } = shown(null, null, []);
  assert.deepEqual([rows, unknown], [[], 1]); // it is counted whether shown or not
});

test("toRange: an end of the slider is the end of what is possible, both are no condition", () => {
  const ends = { low: 0.3, high: 0.9 };
  assert.equal(toRange("density", [0.3, 0.9], ends), null);
  assert.deepEqual(toRange("density", [0.3, 0.8], ends), [-1, 0.8]);
  assert.deepEqual(toRange("confidence", [0.5, 0.9], ends), [0.5, 1]);
});

test("fromRange: within the slider's ends", () => {
  const ends = { low: 0.3, high: 0.9 };
  assert.deepEqual(fromRange(null, ends), [0.3, 0.9]);
  assert.deepEqual(fromRange([-1, 0.8], ends), [0.3, 0.8]);
  assert.deepEqual(fromRange([0.95, 2], ends), [0.9, 0.9]);
});

test("a range survives the way to the slider and back", () => {
  const ends = limitsOf(POINTS, "density", [0.4, 0.7]);
  assert.deepEqual(toRange("density", fromRange([0.4, 0.7], ends), ends), [0.4, 0.7]);
});

test("niceStep: 1, 2 or 5 times a power of ten, 60 steps or more", () => {
  for (const width of [0.01, 0.37, 0.6, 1, 1.9, 7, 120]) {
    const step = niceStep(width);
    assert.match(step.toExponential(), /^[125]e/);
    assert.ok(width / step >= 59.99 && width / step < 160, `${width} / ${step}`);
  }
});

test("limitsOf: round numbers around the known values and around a bound that is set", () => {
  const { step, low, high } = limitsOf(POINTS, "density", null);
  assert.ok(low <= 0.2 && low > 0.2 - 2 * step);
  assert.ok(high >= Math.fround(0.9) && high < 0.9 + 2 * step);
  assert.ok(limitsOf(POINTS, "density", [0.05, 1]).low <= 0.05);
  assert.ok(limitsOf(POINTS, "density", [-1, 0.7]).low > 0); // -1 is the end of what is possible
});

test("limitsOf: where nothing is known, what is possible; one value gets some width", () => {
  const nothing = makePoints(2, { density: Float32Array.of(NaN, NaN) });
  const { low, high } = limitsOf(nothing, "density", null);
  assert.deepEqual([low, high], [-1, 1]);
  const one = limitsOf(makePoints(1, { density: Float32Array.of(0.5) }), "density", null);
  assert.ok(one.low < one.high);
  const sure = limitsOf(makePoints(2, { confidence: Float32Array.of(1, 1) }), "confidence", null);
  assert.deepEqual([sure.low, sure.high], [0.9999, 1]); // no end is above what is possible
});

test("middleOf: quantiles of what is known, over one or several steps", () => {
  const many = makePoints(101, { density: Float32Array.from({ length: 101 }, (_, i) => (i - 50) / 50) });
  assert.deepEqual(middleOf([many], "density"), [-0.96, 0.96].map(Math.fround));
  assert.equal(middleOf([POINTS, many], "density")[1], Math.fround(0.96));
  const nothing = makePoints(1, { density: Float32Array.of(NaN) });
  assert.deepEqual(middleOf([nothing], "density"), [-1, 1]);
  const same = middleOf([makePoints(2, { density: Float32Array.of(0.5, 0.5) })], "density");
  assert.deepEqual(same, [0.5, 0.51]);
});

test("middleOf: a change is as far from 0 at both ends, however the values lie", () => {
  const ends = (...values) => middleOf([makePoints(3, { shift: Float32Array.from(values) })], "shift");
  assert.deepEqual(ends(0.25, 0.5, -0.125), [-0.5, 0.5]);
  assert.deepEqual(ends(-0.75, -0.5, NaN), [-0.75, 0.75]);
  assert.deepEqual(ends(0, 0, 0), [-0.01, 0.01]);
});

test("middleOf: who is sure everywhere is at the sure end, and no end is beyond what is possible", () => {
  const sure = (value) => ({ confidence: new Float32Array(3).fill(value) });
  const alike = (value) => middleOf([makePoints(3, sure(value))], "confidence");
  assert.deepEqual(alike(1), [0.99, 1]);
  assert.deepEqual(alike(0), [0, 0.01]);
  assert.deepEqual(alike(0.995), [0.99, 1]);
  const [low, high] = middleOf([makePoints(2, { density: Float32Array.of(0.5, 1.0000001) })], "density");
  assert.deepEqual([low, high], [0.5, 1]);
});
