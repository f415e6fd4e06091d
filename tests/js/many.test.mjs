// Many points: the order in which they are drawn, of those in one pixel the last, and cells pixel by pixel.
import assert from "node:assert/strict";
import { test } from "node:test";
import { contrast } from "../../dgcl_nb/static/front/colours.js";
import { extent, fillCells } from "../../dgcl_nb/static/explorer/cells.js";
import { insideOf, isInside } from "../../dgcl_nb/static/explorer/lasso.js";
import { drawnGroups, GROUPS, orderPoints } from "../../dgcl_nb/static/explorer/order.js";
import { placePoints, pointRadius, styleOf } from "../../dgcl_nb/static/explorer/points.js";
import { ranksOf } from "../../dgcl_nb/static/explorer/ranks.js";
import { drawRaster, rimOn } from "../../dgcl_nb/static/explorer/raster.js";
import { MANY } from "../../dgcl_nb/static/explorer/scene.js";
import { packed } from "../../dgcl_nb/static/explorer/stamp.js";
import { startMove } from "../../dgcl_nb/static/explorer/time.js";
import { makePoints, numbers } from "./helpers.mjs";

const table = Array.from({ length: 256 }, (_, j) => [j, 0, 0]);

test("order: hidden, pale, plain, and wrong ones last; each in the order of rows", () => {
  const points = makePoints(6, { shown: Uint8Array.of(1, 0, 1, 1, 1, 0) });
  const paint = Uint8Array.of(1, 0, 0, 1, 0, 1); // of "right": 0 is wrong
  const app = { by: "right", table, dim: Uint8Array.of(0, 0, 0, 1, 0, 0), ghosts: true };
  const { rows, start } = orderPoints(app, points, paint);
  const groups = drawnGroups(app, start).map(([name, first, end]) => [name, [...rows.subarray(first, end)]]);
  assert.deepEqual(groups, [["hidden", [1, 5]], ["pale", [3]], ["plain", [0]], ["late", [2, 4]]]);
  const plainly = orderPoints({ ...app, by: "class", dim: null }, points, paint);
  const plain = drawnGroups({ ghosts: false }, plainly.start);
  assert.deepEqual(plain, [["plain", 2, 6]]);
});

const [WHITE, DARK] = [[255, 255, 255], [18, 22, 28]]; // grounds of the two themes

function raster(n, pos, paint, needsRim = new Array(256).fill(false), ground = WHITE) {
  const view = { x: 0, y: 0, scale: 1, zoom: 1 };
  const app = { pos, view, width: 60, height: 40, ratio: 1, px: [], py: [] };
  Object.assign(app, { by: "class", table, dim: null, fade: null, ghosts: true, ground });
  const points = makePoints(n);
  placePoints(app, points);
  const image = { width: 60, height: 40, data: new Uint8ClampedArray(4 * 60 * 40) };
  const own = { radius: 1.2, rim: 1, strength: 256 };
  const style = Object.fromEntries(GROUPS.map((name) => [name, own]));
  const colours = { paint, table, needsRim };
  drawRaster(app, image, orderPoints(app, points, paint), colours, style);
  return { app, points, pixels: new Uint32Array(image.data.buffer) };
}

test("raster: of many points in one pixel the last is seen, as where each is drawn", () => {
  for (const n of [10, MANY + 10]) {
    const paint = new Uint8Array(n).fill(7);
    paint[n - 1] = 9;
    const { pixels } = raster(n, new Float32Array(2 * n), paint);
    assert.equal(pixels[20 * 60 + 30], packed(table[9]) >>> 0);
    assert.equal(pixels[20 * 60 + 40], packed([255, 255, 255]) >>> 0);
  }
});

test("raster: in a crowd no rim hides a disc, and there is one around it", () => {
  const n = MANY + 10;
  const pos = Float32Array.from({ length: 2 * n }, (_, j) => (j % 2 ? 0 : (j / 2) % 9)); // side by side
  const { pixels } = raster(n, pos, new Uint8Array(n).fill(7), new Array(256).fill(true));
  assert.equal(pixels[20 * 60 + 34], packed(table[7]) >>> 0);
  const above = pixels[18 * 60 + 34] & 255;
  assert.ok(above < 255 && above > 7);
});

test("raster: a dark point on a dark ground has a rim that is seen", () => {
  const { pixels } = raster(1, new Float32Array(2), Uint8Array.of(7), new Array(256).fill(true), DARK);
  const rgbOf = (pixel) => [pixel, pixel >> 8, pixel >> 16].map((channel) => channel & 255);
  const ratios = Array.from(pixels, (pixel) => contrast(rgbOf(pixel), DARK));
  assert.ok(Math.max(...ratios) >= 7);
  assert.ok(contrast(rimOn(WHITE), WHITE) > 3);
});

test("places: computed anew when the view moves, and only then", () => {
  const { app, points } = raster(5, new Float32Array(10), new Uint8Array(5));
  const { places, placed } = app;
  placePoints(app, points);
  assert.equal(app.placed, placed);
  app.view.x = 3;
  placePoints(app, points);
  assert.notEqual(app.placed, placed);
  assert.equal(app.px[0], 27);
  assert.equal(places.places[0], 20 * 60 + 30);
});

test("lasso: side by side rows of pixels find what the whole line finds", () => {
  const next = numbers(3);
  const path = Array.from({ length: 60 }, () => [100 * next() - 20, 90 * next() - 20]);
  path.push([5, 7], [5, 7]); // a hand that rests
  const n = 2000;
  const place = () => Float32Array.from({ length: n }, () => 110 * next() - 20);
  const app = { px: place(), py: place() };
  const points = makePoints(n);
  points.shown[3] = 0;
  const wanted = [...points.shown.keys()].filter((i) => i !== 3 && isInside(path, app.px[i], app.py[i]));
  assert.deepEqual(insideOf(app, points, path), wanted);
  assert.ok(wanted.length > 100 && wanted.length < n - 100);
  assert.deepEqual(insideOf(app, points, []), []);
});

test("ranks: by halving, the same shares as by counting", () => {
  const sorted = Float32Array.of(0.1, 0.2, 0.2, 0.3, 0.9);
  const shareOf = (isCounted) => Math.round(100 * sorted.filter(isCounted).length / 5);
  for (const range of [[0.2, 0.3], [-1, 1], [0.95, 1], [0.15, 0.2]]) {
    const [low, high] = range;
    assert.deepEqual(ranksOf(sorted, range), [shareOf((v) => v < low), shareOf((v) => v <= high)]);
  }
});

test("time: too many points for a move go at once", () => {
  const after = makePoints(MANY + 1);
  const app = { pos: null };
  startMove(app, makePoints(1), after, 700);
  assert.equal(app.pos, after.xy);
});

test("cells: neighbours share no pixel and leave none; a dot is in the middle", () => {
  const edges = Array.from({ length: 9 }, (_, place) => extent(place, 2.48, 0));
  edges.slice(1).forEach(([first], j) => assert.equal(first, edges[j][1]));
  assert.deepEqual(extent(2, 10, 1), [24, 26]);
  assert.deepEqual(extent(0, 1, 0.1), [0, 1]);
});

test("cells: filled with their colours, mixed with what is below", () => {
  const image = { width: 4, height: 2, data: new Uint8ClampedArray(32).fill(255) };
  const pen = { canvas: image, getImageData: () => image, putImageData() {} };
  const points = makePoints(2, { row: Uint16Array.of(0, 5), col: Uint16Array.of(1, 0) }); // one lies outside
  fillCells(pen, points, [0, 1], [2, 2], () => [0, 0, 0], 128);
  assert.deepEqual([...image.data].filter((_, j) => j % 4 === 0), [255, 255, 127, 127, 255, 255, 127, 127]);
});

test("style: a few chosen among many are as large as alone, and a crowd that steps back stays pale", () => {
  const n = 200000;
  const app = { by: "class", table, ghosts: true, view: { zoom: 1 }, ratio: 2 };
  app.dim = new Uint8Array(n).fill(1);
  for (let i = 0; i < 72; i++) app.dim[i] = 0;
  const points = makePoints(n);
  const chosen = styleOf(app, n, orderPoints(app, points, points.label));
  assert.equal(chosen.plain.radius, 2 * pointRadius(72, 1));
  assert.equal(chosen.pale.radius, 2 * pointRadius(n, 1));
  assert.ok(chosen.plain.radius > 3 * chosen.pale.radius);
  const few = styleOf({ ...app, dim: Uint8Array.of(0, 1) }, 2, { start: Uint32Array.of(0, 0, 1, 2, 2) });
  assert.ok(chosen.pale.strength < few.pale.strength / 2);
  app.dim = null;
  const all = styleOf(app, n, orderPoints(app, points, points.label));
  assert.equal(all.plain.radius, all.pale.radius);
  assert.equal(all.plain.radius, 2 * pointRadius(n, 1));
});
