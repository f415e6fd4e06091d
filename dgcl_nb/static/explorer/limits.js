// From where to where values go: the ends of sliders and of the colour scale.
import { decimals } from "../front/slider.js";

// What is possible.
export const LIMITS = { density: [-1, 1], confidence: [0, 1], shift: [-2, 2] };

// What rises or falls: 0 has the colour in the middle of the scale.
export const SIGNED = ["shift"];

// 5, 2 or 1 times a power of ten, so that 60 steps or more span the width.
export function niceStep(width) {
  const power = 10 ** Math.floor(Math.log10(width / 60));
  const factor = [5, 2, 1].find((m) => m * power <= width / 60);
  return Number((factor * power).toPrecision(1));
}

// The ends of a slider: round numbers around the values of one step, and around the bounds that are
// set, none above what is possible. Unknown values (NaN) fail both comparisons and are left out.
export function limitsOf(points, name, range) {
  let [low, high] = [Infinity, -Infinity];
  const include = (value) => {
    if (value < low) low = value;
    if (value > high) high = value;
  };
  for (const value of points[name]) include(value);
  for (const bound of range || []) {
    if (!LIMITS[name].includes(bound)) include(bound);
  }
  if (low > high) [low, high] = LIMITS[name];
  const step = niceStep(Math.max(high - low, 0.01));
  const tidy = (count) => Number((count * step).toFixed(decimals(step)));
  const most = Math.round(LIMITS[name][1] / step);
  const from = Math.floor(low / step);
  const last = Math.min(Math.max(Math.ceil(high / step), from + 1), most);
  const first = Math.min(from, last - 1);
  return { step, low: tidy(first), high: tidy(last) };
}

// Where all values are alike a scale has some width, too; no end of it is beyond what is possible.
function widened([low, high], most) {
  if (high > low) return [low, high];
  const end = Math.min(low + 0.01, most);
  return [Math.min(low, end - 0.01), end];
}

// From where to where the middle 96 % of the known values go: one odd point would take most of a scale.
export function middleOf(steps, name) {
  const known = steps.map((points) => points[name].filter((value) => !Number.isNaN(value)));
  const sorted = new Float32Array(known.reduce((sum, values) => sum + values.length, 0));
  known.reduce((first, values) => {
    sorted.set(values, first);
    return first + values.length;
  }, 0);
  if (!sorted.length) return [...LIMITS[name]];
  sorted.sort();
  const [least, most] = LIMITS[name];
  const possible = (value) => Math.min(Math.max(value, least), most);
  const quantile = (share) => possible(sorted[Math.round(share * (sorted.length - 1))]);
  const [low, high] = [quantile(0.02), quantile(0.98)];
  if (!SIGNED.includes(name)) return widened([low, high], most);
  const farthest = Math.max(-low, high) || 0.01;
  return [-farthest, farthest];
}
