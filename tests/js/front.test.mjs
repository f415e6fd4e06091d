// What all fronts share: bytes, colours, steps of sliders, one drawing a frame, a model without a kernel.
import assert from "node:assert/strict";
import { test } from "node:test";
import { colourMap, contrast, css, rgbOf, scaleCss } from "../../dgcl_nb/static/front/colours.js";
import { typed, view } from "../../dgcl_nb/static/front/data.js";
import { throttle } from "../../dgcl_nb/static/front/draw.js";
import { pageModel, revive } from "../../dgcl_nb/static/front/page_model.js";
import { CIVIDIS, UNKNOWN } from "../../dgcl_nb/static/front/palette.js";
import { decimals } from "../../dgcl_nb/static/front/slider.js";

test("typed: bytes that begin anywhere, none, and a rest that is no whole value", () => {
  const bytes = Uint8Array.of(9, 1, 0, 2, 0, 7);
  const odd = new DataView(bytes.buffer, 1, 5); // a Uint16Array cannot begin at 1
  assert.deepEqual([...typed(odd, Uint16Array)], [1, 2]);
  const even = new DataView(bytes.buffer, 2, 2);
  assert.equal(typed(even, Uint16Array).buffer, bytes.buffer); // no copy where none is needed
  assert.equal(typed(undefined, Float32Array).length, 0);
  const model = { get: (name) => (name === "a" ? even : undefined) };
  assert.deepEqual([...view(model, "a", Uint8Array)], [0, 2]);
});

test("colourMap: ends, beyond, between, and unknown", () => {
  assert.deepEqual(colourMap(0), CIVIDIS[0]);
  assert.deepEqual(colourMap(-3), CIVIDIS[0]);
  assert.deepEqual(colourMap(1), CIVIDIS[32]);
  assert.deepEqual(colourMap(9), CIVIDIS[32]);
  assert.deepEqual(colourMap(0.5), CIVIDIS[16]);
  assert.deepEqual(colourMap(NaN), UNKNOWN);
});

test("contrast: of black and white, of a colour with itself", () => {
  assert.equal(contrast([0, 0, 0], [255, 255, 255]), 21);
  assert.equal(contrast([255, 255, 255], [0, 0, 0]), 21);
  assert.equal(contrast([9, 80, 200], [9, 80, 200]), 1);
});

test("colours as texts, and back", () => {
  assert.equal(css([1, 2, 3]), "rgba(1,2,3,1)");
  assert.deepEqual(rgbOf("#0a10ff"), [10, 16, 255]);
  assert.deepEqual(rgbOf("rgba(7, 8, 9, 0.5)"), [7, 8, 9]);
  assert.equal(scaleCss().split("rgba").length - 1, CIVIDIS.length);
});

test("decimals: as many as a step has", () => {
  const wanted = { 1: 0, 10: 0, 0.5: 1, 0.05: 2, 0.01: 2, 0.005: 3, 1e-9: 6 };
  for (const [step, count] of Object.entries(wanted)) assert.equal(decimals(Number(step)), count, step);
});

test("throttle: once a frame, with the newest values", () => {
  const frames = [];
  globalThis.requestAnimationFrame = (fn) => frames.push(fn);
  const seen = [];
  const draw = throttle((value) => seen.push(value));
  for (const value of [1, 2, 3]) draw(value);
  assert.equal(frames.length, 1);
  frames[0]();
  assert.deepEqual(seen, [3]);
  draw(4);
  assert.equal(frames.length, 2);
});

test("revive: bytes anywhere, everything else as it is", () => {
  const given = { a: [1, { $bytes: "AQI=" }], b: null, c: { d: "x" }, e: 0 };
  const got = revive(given);
  assert.deepEqual([got.a[1].getUint8(0), got.a[1].getUint8(1)], [1, 2]);
  assert.deepEqual([got.a[0], got.b, got.c, got.e], [1, null, { d: "x" }, 0]);
});

test("pageModel: tells of changes, and of nothing else", () => {
  const model = pageModel({ a: 1, b: 2 });
  const calls = [];
  const onA = () => calls.push("a");
  model.on("change:a change:b", () => calls.push("both"));
  model.on("change:a", onA);
  model.set("a", 1); // the value it has
  assert.deepEqual(calls, []);
  model.set("a", 5);
  model.set("b", 6);
  assert.deepEqual(calls, ["both", "a", "both"]);
  model.off("change:a", onA);
  model.set("a", 7);
  assert.deepEqual(calls, ["both", "a", "both", "both"]);
  assert.deepEqual([model.get("a"), model.isPage], [7, true]);
});
