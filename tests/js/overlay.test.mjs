// Maps over images: levels, cells, colours, what is hidden, and shares.
import assert from "node:assert/strict";
import { test } from "node:test";
import { compose, hider, painter, weightOf } from "../../dgcl_nb/static/overlay/compose.js";
import { imageWords, rightShares } from "../../dgcl_nb/static/overlay/legend.js";
import { layersOf } from "../../dgcl_nb/static/overlay/layers.js";
import { TOP_LEVEL, UNKNOWN_LEVEL } from "../../dgcl_nb/static/overlay/levels.js";
import {
  cellOf, classReader, droppedReader, isContinuous, levelAt, levelReader, valueOf
} from "../../dgcl_nb/static/overlay/readers.js";
import { shareOf, valueText, wholePercent } from "../../dgcl_nb/static/overlay/shares.js";
import { pixelIn } from "../../dgcl_nb/static/overlay/state.js";
import { RIGHT_WRONG, UNKNOWN } from "../../dgcl_nb/static/front/palette.js";
import { IGNORE, makeMaps } from "./helpers.mjs";

const FIRST = { image: 0, step: 0 };
const LAST = { image: 0, step: 1 };
const PIXELS = [0, 1, 2, 3, 4, 5, 6, 7];

test("readers: a pixel's cell, class and level, at each step", () => {
  const maps = makeMaps();
  assert.deepEqual(PIXELS.map((pixel) => cellOf(maps, pixel)), [0, 0, 1, 1, 0, 0, 1, 1]);
  assert.equal(classReader(maps, LAST, "target")(1), 1); // the same at every step
  assert.equal(classReader(maps, LAST, "prediction")(0), 1);
  const levels = (place, layer) => [0, 2].map(levelReader(maps, place, layer));
  assert.deepEqual(levels(FIRST, "density"), [1, 2]);
  assert.deepEqual(levels(FIRST, "density_8"), [3, 4]);
  assert.deepEqual(levels(FIRST, "density_16"), [5, UNKNOWN_LEVEL]);
  assert.deepEqual(levels(LAST, "density_16"), [0, 32767]);
  assert.equal(droppedReader(maps, FIRST)(1), true);
});

test("levels: values and back, NaN where it is not known", () => {
  const maps = makeMaps();
  assert.equal(valueOf(maps, "density_8", 0), -1);
  assert.equal(valueOf(maps, "density_8", TOP_LEVEL), 1);
  assert.ok(Number.isNaN(valueOf(maps, "density", UNKNOWN_LEVEL)));
  for (const level of [1, 777, 65533]) {
    assert.equal(levelAt(maps, "entropy", valueOf(maps, "entropy", level)), level);
  }
  assert.ok(levelAt(maps, "entropy", 0) <= 0); // nothing lies below
});

test("layers: one density for each k, or a single one", () => {
  const keys = (maps) => layersOf(maps).map(([key]) => key).filter(isContinuous);
  assert.deepEqual(keys(makeMaps()), ["density", "density_8", "density_16", "confidence", "entropy"]);
  assert.deepEqual(keys(makeMaps({ num_neighbors: [8] })), ["density", "confidence", "entropy"]);
});

test("painter: unknown is grey, be it a truth, a class or a density", () => {
  const maps = makeMaps();
  const colours = (layer) => [0, 1, 2, 3].map(painter(maps, FIRST, layer));
  assert.deepEqual(colours("target"), [...maps.palette, UNKNOWN]);
  assert.deepEqual(colours("right_wrong"), [RIGHT_WRONG[0], RIGHT_WRONG[1], RIGHT_WRONG[0], UNKNOWN]);
  assert.deepEqual(painter(maps, FIRST, "density_16")(2), UNKNOWN);
  assert.notDeepEqual(painter(maps, FIRST, "density_16")(0), UNKNOWN);
});

test("hider: two ends; an unknown value is hidden as soon as either hides anything", () => {
  const maps = makeMaps();
  const hidden = (place, from, to) => PIXELS.filter(hider(maps, place, "density_16", from, to));
  assert.deepEqual(hidden(LAST, -1, 1), []);
  assert.deepEqual(hidden(LAST, -1, 0.5), []); // -1 and 0 are the values there
  assert.deepEqual(hidden(LAST, -1, -0.5), [2, 3, 6, 7]);
  assert.deepEqual(hidden(LAST, -0.5, 0.5), [0, 1, 4, 5]);
  assert.deepEqual(hidden(FIRST, -1, 0.5), [2, 3, 6, 7]); // not known
});

test("images smaller than the maps: what lies beyond is transparent and in no share", () => {
  const maps = makeMaps({ image_size: [[1, 2]], shown_size: [[1, 2]] });
  const out = new Uint8ClampedArray(32);
  compose(out, maps, FIRST, "image", 0, () => false);
  assert.deepEqual(PIXELS.map((pixel) => out[4 * pixel + 3]), [255, 255, 0, 0, 0, 0, 0, 0]);
  assert.equal(shareOf(maps, FIRST, (pixel) => pixel !== 0), 0.5);
});

test("crosshair: comes within the next image where that is smaller", () => {
  const maps = makeMaps({ images: ["a", "b"], shown_size: [[2, 4], [1, 3]] });
  assert.deepEqual([0, 2, 7].map((pixel) => pixelIn(maps, 1, pixel)), [0, 2, 2]);
  assert.deepEqual([pixelIn(maps, 0, 7), pixelIn(maps, 1, null)], [7, null]);
});

test("the words of an image: whole or not, at which size", () => {
  const sized = (whole, shown) => imageWords(makeMaps({ image_size: [whole], shown_size: [shown] }), FIRST);
  assert.match(sized([360, 480], [2, 4]), /^the whole image of 360 × 480 pixels, shown at 2 × 4; /);
  assert.match(sized([2, 4], [2, 4]), /^the whole image of 2 × 4 pixels; .*prediction: whole images$/);
  assert.match(sized([0, 0], [2, 4]), /^2 × 4 pixels, as an older version kept them/);
});

test("the shares of right and wrong: where nothing is wrong it says so", () => {
  // 1 - 2/3 - 1/3 is no exact 0, and would read "< 1 %"
  const labels = { target: Uint8Array.of(0, 0, IGNORE), prediction: Uint8Array.of(0, 0, 0) };
  const maps = makeMaps({ height: 1, width: 3, shown_size: [[1, 3]], ...labels });
  const { right, wrong, unknown } = rightShares(maps, FIRST);
  assert.deepEqual([right, wrong, unknown].map(wholePercent), ["67 %", "0 %", "33 %"]);
});

test("hider: nothing at the low end; what is below, and what is not known, above it", () => {
  const maps = makeMaps();
  const hidden = (place, threshold) => PIXELS.filter(hider(maps, place, "density_16", threshold));
  assert.deepEqual(hidden(FIRST, -1), []);
  assert.deepEqual(hidden(FIRST, -0.99), PIXELS); // level 5, and unknown
  assert.deepEqual(hidden(LAST, -0.5), [0, 1, 4, 5]);
});

test("background: the class that the maps name, at half; all alike where there is none", () => {
  const weights = (background) => [0, 1, 2].map(weightOf(makeMaps({ background }), FIRST, "target"));
  assert.deepEqual(weights(2), [1, 1, 0.5]);
  assert.deepEqual(weights(0), [0.5, 1, 1]);
  assert.deepEqual(weights(null), [1, 1, 1]);
  assert.equal(weightOf(makeMaps(), FIRST, "right_wrong")(2), 1);
});

test("compose: the image itself, its grey where hidden, a blend elsewhere", () => {
  const maps = makeMaps();
  const never = () => false;
  const picture = (layer, alpha, isHidden = never) => {
    const out = new Uint8ClampedArray(32);
    compose(out, maps, FIRST, layer, alpha, isHidden);
    return PIXELS.map((pixel) => [...out.slice(4 * pixel, 4 * pixel + 4)]);
  };
  assert.deepEqual(picture("image", 0.7)[0], [100, 100, 100, 255]);
  assert.deepEqual(picture("target", 1)[1], [200, 0, 0, 255]);
  assert.deepEqual(picture("target", 0.5)[1], [150, 50, 50, 255]);
  assert.deepEqual(picture("target", 1)[2], [50, 50, 50, 255]); // background, half
  assert.deepEqual(picture("target", 1, (pixel) => pixel === 1)[1], [100, 100, 100, 255]);
});

test("shares: a few are not none, all but a few are not all", () => {
  assert.equal(shareOf(makeMaps(), FIRST, (pixel) => pixel < 2), 0.25);
  const wanted = { 0: "0 %", 0.001: "< 1 %", 0.25: "25 %", 0.999: "> 99 %", 1: "100 %" };
  for (const [share, text] of Object.entries(wanted)) assert.equal(wholePercent(Number(share)), text);
});

test("values as texts: as many decimals as the slider's step has", () => {
  const maps = makeMaps({ ranges: { density: [0, 1, 0.005] } });
  assert.deepEqual([valueText(maps, "density", 0.5), valueText(maps, "density", NaN)], ["0.500", "unknown"]);
});
