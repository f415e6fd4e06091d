// Which points are shown: the rule of ExplorerState.mask, in the place where the slider is.
import { LIMITS } from "./limits.js";

// What the two handles mean: an end of the slider stands for the end of what is possible, not for the
// largest value so far; both ends are no condition (null), which lets unknown values in, too.
export function toRange(name, [low, high], ends) {
  const [isFirst, isLast] = [low <= ends.low, high >= ends.high];
  if (isFirst && isLast) return null;
  return [isFirst ? LIMITS[name][0] : low, isLast ? LIMITS[name][1] : high];
}

// Where the handles stand for a range.
export function fromRange(range, { low, high }) {
  if (!range) return [low, high];
  return range.map((bound) => Math.min(Math.max(bound, low), high));
}

// Writes points.shown. A range is [low, high], both included, or null for no condition; classes are
// numbers, or null for all. NaN fails both comparisons: a point of unknown density is shown only where
// there is no condition on density.
export function filterPoints(points, density, confidence, classes) {
  const { shown, kind, n, density: dense, confidence: sure } = points;
  const wanted = new Uint8Array(256).fill(classes ? 0 : 1);
  for (const c of classes || []) wanted[c] = 1;
  const [denseFrom, denseTo] = density || [];
  const [sureFrom, sureTo] = confidence || [];
  const perClass = new Uint32Array(256);
  let count = 0;
  let unknown = 0;
  for (let i = 0; i < n; i++) {
    const d = dense[i];
    const c = sure[i];
    const isDense = !density || (d >= denseFrom && d <= denseTo);
    const isSure = !confidence || (c >= sureFrom && c <= sureTo);
    const ok = wanted[kind[i]] && isDense && isSure ? 1 : 0;
    shown[i] = ok;
    count += ok;
    perClass[kind[i]] += ok;
    if (Number.isNaN(d)) unknown++;
  }
  return { count, unknown, perClass };
}
