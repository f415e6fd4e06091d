// Shares of the image, and values, as texts.
import { decimals } from "../front/slider.js";
import { insideReader, numPixels, rangeOf } from "./readers.js";

// The share of an image's pixels for which a function says yes.
export function shareOf(maps, place, isCounted) {
  const isInside = insideReader(maps, place);
  const [rows, columns] = maps.shown_size[place.image];
  let counted = 0;
  for (let pixel = 0; pixel < numPixels(maps); pixel++) {
    if (isInside(pixel) && isCounted(pixel)) counted++;
  }
  return counted / (rows * columns);
}

// A few pixels are not none, and all but a few are not all.
export function wholePercent(share) {
  if (share > 0 && share < 0.005) return "< 1 %";
  if (share < 1 && share > 0.995) return "> 99 %";
  return `${Math.round(100 * share)} %`;
}

// As many decimals as the slider's step has, and two at least.
export function valueText(maps, layer, value) {
  if (Number.isNaN(value)) return "unknown";
  const step = rangeOf(maps, layer)[2];
  return value.toFixed(Math.max(2, decimals(step)));
}
