// The same points in another step, and the way there.
import { MANY } from "./scene.js";

// Row of each cell of a step; made when first asked for.
export function rowsByKey(points) {
  if (!points.byKey) {
    points.byKey = new Map();
    for (let i = 0; i < points.n; i++) {
      if (points.key[i] >= 0) points.byKey.set(points.key[i], i);
    }
  }
  return points.byKey;
}

// The rows of the same cells in another step; those that are not there are left out.
export function carryOver(rows, before, after) {
  if (before === after || !rows.length) return rows;
  const map = rowsByKey(after);
  const carried = rows.map((i) => (before.key[i] >= 0 ? map.get(before.key[i]) : undefined));
  return carried.filter((row) => row !== undefined);
}

// Somebody who asked the system for less motion gets none; nor does a tab that nobody sees.
function isStill() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches || document.hidden;
}

// Where each point of a step begins: where its cell is drawn now, or else at its own place (isNew).
export function beginnings(before, after, positions) {
  const from = new Float32Array(after.xy);
  const isNew = new Uint8Array(after.n).fill(1);
  const map = rowsByKey(before);
  for (let i = 0; i < after.n; i++) {
    const row = after.key[i] >= 0 ? map.get(after.key[i]) : undefined;
    if (row === undefined) continue;
    from[2 * i] = positions[2 * row];
    from[2 * i + 1] = positions[2 * row + 1];
    isNew[i] = 0;
  }
  return { from, isNew };
}

// Go from one step to another, be it in the middle of a move; no `before`, no time or too many
// points: at once.
export function startMove(app, before, after, milliseconds) {
  app.move = null;
  app.fade = null;
  if (!before || !milliseconds || after.n > MANY || isStill()) {
    app.pos = after.xy;
    return;
  }
  const { from, isNew } = beginnings(before, after, app.pos);
  app.pos = from;
  app.move = { from, isNew, to: after.xy, began: performance.now(), milliseconds };
}

// Slow at both ends: 0 to 1 with a derivative of 0 there.
export function eased(t) {
  return t * t * (3 - 2 * t);
}

// The places now, and how much of each point is to be seen; asks for the next frame until it is over.
export function advance(app) {
  const { from, to, isNew, began, milliseconds } = app.move;
  const t = Math.min(1, (performance.now() - began) / milliseconds);
  if (t >= 1) {
    app.pos = to;
    app.fade = null;
    app.move = null;
    return;
  }
  const u = eased(t);
  app.pos = from.map((start, j) => start + u * (to[j] - start));
  app.fade = Float32Array.from(isNew, (fresh) => (fresh ? u : 1));
  app.again();
}
