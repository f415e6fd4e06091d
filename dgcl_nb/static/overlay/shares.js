// Shares of the image, and values, as texts.
import { decimals } from "../front/slider.js";
import { numPixels, rangeOf } from "./readers.js";

// The share of pixels for which a function says yes.
export function shareOf(maps, isCounted) {
  const count = numPixels(maps);
  let counted = 0;
  for (let pixel = 0; pixel < count; pixel++) {
    if (isCounted(pixel)) counted++;
  }
  return counted / count;
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
