// What is said of colours.
import assert from "node:assert/strict";
import { test } from "node:test";
import { classText, scaleDigits, showLegend } from "../../dgcl_nb/static/explorer/legend.js";
import { IGNORE, makePoints } from "./helpers.mjs";

const SCENE = { said: "prediction", ignore: IGNORE, steps: [1] };

// Elements of which no more is there than their texts.
function textOf(scene, points, by) {
  const words = [];
  const node = (tag) => ({ tag, style: {}, append: (...parts) => words.push(...parts.map(String)) });
  globalThis.document = { createElement: node };
  const legend = { querySelector: () => null, replaceChildren() {} };
  showLegend({ scene, by, legend, points: () => points });
  return words.filter((word) => word !== "[object Object]").join("; ");
}

test("classes: grey is named, be it some cells or all, of the truth or of what the network says", () => {
  const points = makePoints(2, { label: Uint8Array.of(0, IGNORE), pseudo: new Uint8Array(2).fill(IGNORE) });
  assert.equal(classText(SCENE, points, "class"), "Colours: see Classes. Grey: true class unknown.");
  assert.equal(classText(SCENE, points, "pseudo"), "Grey: no prediction is known.");
  points.pseudo[0] = 1;
  assert.equal(classText(SCENE, points, "pseudo"), "Colours: see Classes. Grey: prediction unknown.");
  assert.equal(classText(SCENE, makePoints(1), "pseudo"), "Colours: see Classes.");
});

test("density: where there is no memory bank none is spoken of", () => {
  const points = makePoints(2, { density: new Float32Array(2).fill(NaN) });
  assert.match(textOf(SCENE, points, "density"), /^Grey: no density is known, as no cell has others/);
  assert.match(textOf({ ...SCENE, said: "pseudo-label" }, points, "density"), /memory bank/);
});

test("scale: the digits tell its ends apart, however near they are", () => {
  const wanted = [[0, 1, 2], [0.5, 0.59, 3], [0.99, 1, 3], [0.99981, 0.99989, 6], [0.9, 0.9 + 1e-9, 6]];
  for (const [low, high, digits] of wanted) assert.equal(scaleDigits(low, high), digits);
  const points = makePoints(2, { density: Float32Array.of(0.99981, 0.99989) });
  assert.match(textOf(SCENE, points, "density"), /sparse, ≤ 0.999810; dense, ≥ 0.999890/);
});

test("change of density: the middle of its scale is named", () => {
  const points = makePoints(2, { shift: Float32Array.of(-0.25, 0.5) });
  assert.match(textOf(SCENE, points, "shift"), /sparser, ≤ -0.50; denser, ≥ 0.50/);
});

test("changes: cells of which nobody knows what changed are named and counted, where there are any", () => {
  const change = Uint8Array.of(0, 255, 255);
  assert.match(textOf(SCENE, makePoints(3, { change }), "change"), /both right; 1; .*not known; 2$/);
  assert.doesNotMatch(textOf(SCENE, makePoints(1, { change: Uint8Array.of(0) }), "change"), /not known/);
});
