// What the selected points have in common, and which points step back for them.

// The numbers of ExplorerState.summary: means over what is known, NaN where nothing is; the class mix
// as pairs of class and count, the most frequent first.
export function summarise(points, rows) {
  const counts = new Uint32Array(256);
  let [density, known, confidence, sure, right, judged] = [0, 0, 0, 0, 0, 0];
  for (const i of rows) {
    counts[points.kind[i]]++;
    if (!Number.isNaN(points.confidence[i])) {
      confidence += points.confidence[i];
      sure++;
    }
    if (!Number.isNaN(points.density[i])) {
      density += points.density[i];
      known++;
    }
    if (points.right[i] >= 0) {
      right += points.right[i];
      judged++;
    }
  }
  const mean = (sum, count) => (count ? sum / count : NaN);
  const mix = [...counts].map((count, c) => [c, count]).filter(([, count]) => count);
  return {
    n: rows.length,
    mix: mix.sort((a, b) => b[1] - a[1]),
    density: mean(density, known),
    confidence: mean(confidence, sure),
    right: mean(right, judged)
  };
}

// The rows of all points that the filter shows.
export function shownRows(points) {
  const rows = [];
  for (let i = 0; i < points.n; i++) {
    if (points.shown[i]) rows.push(i);
  }
  return rows;
}

// 1 for each point that is drawn pale: all but the class that the pointer is at, or else all but the
// selected ones; null where none is.
export function dimmed(app, points) {
  const { selected, emphasis } = app;
  if (emphasis >= 0) return points.kind.map((c) => c !== emphasis);
  if (!selected.size) return null;
  const dim = new Uint8Array(points.n).fill(1);
  for (const i of selected) dim[i] = 0;
  return dim;
}
