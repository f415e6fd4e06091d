// Colours of points, and discs of pixels.
import assert from "node:assert/strict";
import { test } from "node:test";
import { paintOf, scaleOf, tableOf } from "../../dgcl_nb/static/explorer/paint.js";
import { placePoints, pointRadius } from "../../dgcl_nb/static/explorer/points.js";
import { blend, makeStamp, packed } from "../../dgcl_nb/static/explorer/stamp.js";
import { CIVIDIS, RIGHT_WRONG, UNKNOWN } from "../../dgcl_nb/static/front/palette.js";
import { makePoints } from "./helpers.mjs";

const PALETTE = [[1, 2, 3], [4, 5, 6]];

test("paint: unknown density is 255 and grey, known ones are 0 to 254 and never grey", () => {
  const points = makePoints(3, { density: Float32Array.of(0.1, NaN, 0.9) });
  const paint = paintOf({ steps: [points] }, points, "density");
  assert.deepEqual([...paint], [0, 255, 254]);
  const table = tableOf({ palette: PALETTE }, "density");
  assert.deepEqual([table[255], table[0], table[254]], [UNKNOWN, CIVIDIS[0], CIVIDIS[32]]);
});

test("paint: right, wrong and not known", () => {
  const points = makePoints(3, { right: Int8Array.of(1, 0, -1) });
  const paint = paintOf({ steps: [points] }, points, "right");
  const table = tableOf({ palette: PALETTE }, "right");
  assert.deepEqual([...paint].map((p) => table[p]), [...RIGHT_WRONG, UNKNOWN]);
});

test("paint: classes have the palette; a class beyond it is grey", () => {
  const points = makePoints(3, { label: Uint8Array.of(0, 1, 255), pseudo: Uint8Array.of(1, 1, 1) });
  const table = tableOf({ palette: PALETTE }, "class");
  assert.deepEqual([...paintOf({}, points, "class")].map((p) => table[p]), [...PALETTE, UNKNOWN]);
  assert.equal(paintOf({}, points, "pseudo"), points.pseudo);
});

test("paint: is kept for a scale, and made anew for another", () => {
  const early = makePoints(2, { density: Float32Array.of(0, 0.1) });
  const late = makePoints(2, { density: Float32Array.of(0.8, 1) });
  const scene = { steps: [early, late], oneScale: false };
  const own = paintOf(scene, early, "density");
  assert.equal(paintOf(scene, early, "density"), own);
  assert.equal(own[1], 254);
  scene.oneScale = true;
  assert.ok(paintOf(scene, early, "density")[1] < 50);
  assert.deepEqual(scaleOf(scene, early, "density"), scaleOf(scene, late, "density"));
});

test("stamp: covers the area of a disc, and of a ring", () => {
  const area = (stamp) => stamp.cover.reduce((sum, cover) => sum + cover, 0) / 256;
  assert.ok(Math.abs(area(makeStamp(4.2, 100)) - Math.PI * 4.2 ** 2) < 1);
  const ring = makeStamp(5, 100, 1);
  assert.ok(Math.abs(area(ring) - Math.PI * (25 - 16)) < 1);
  assert.ok(!ring.offset.includes(0)); // the middle is free
});

test("blend: full strength replaces, none keeps, half mixes", () => {
  const dot = { offset: Int32Array.of(0), cover: Int32Array.of(256) };
  const on = (strength, rgb) => {
    const buffer = Uint32Array.of(packed([100, 50, 0]));
    blend(buffer, 0, dot, rgb, strength);
    return [...new Uint8Array(buffer.buffer)];
  };
  assert.deepEqual(on(256, [1, 2, 3]), [1, 2, 3, 255]);
  assert.deepEqual(on(0, [1, 2, 3]), [100, 50, 0, 255]);
  assert.deepEqual(on(128, [200, 150, 100]), [150, 100, 50, 255]);
});

test("points: places in the picture, y upwards, and the index is given up", () => {
  const view = { x: 1, y: 2, scale: 10, zoom: 1 };
  const app = { view, pos: [1, 2, 2, 3], width: 100, height: 50, px: [], py: [], index: {} };
  placePoints(app, makePoints(2));
  assert.deepEqual([[...app.px], [...app.py], app.index], [[50, 60], [25, 15], null]);
});

test("points: smaller where there are many, larger when zoomed in, up to twice", () => {
  const radii = [10, 2000, 8000, 50000].map((n) => pointRadius(n, 1));
  assert.deepEqual(radii, [4.2, 3.4, 2.6, 1.8]);
  assert.ok(pointRadius(10, 4) > 4.2);
  assert.equal(pointRadius(10, 1e6), 8.4);
});
