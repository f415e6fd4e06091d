// All points inside a line.

// Whether a place lies inside a closed line of [x, y]: a ray to the right crosses it an odd number of
// times. What a line goes around twice is outside.
export function isInside(path, x, y) {
  let odd = false;
  let [xBefore, yBefore] = path.length ? path[path.length - 1] : [0, 0];
  for (const [xHere, yHere] of path) {
    const crosses = yHere > y !== yBefore > y;
    if (crosses && x < xHere + ((y - yHere) * (xBefore - xHere)) / (yBefore - yHere)) odd = !odd;
    [xBefore, yBefore] = [xHere, yHere];
  }
  return odd;
}

// The rows of the shown points inside a line (CSS pixels).
export function insideOf(app, points, path) {
  const found = [];
  for (let i = 0; i < points.n; i++) {
    if (points.shown[i] && isInside(path, app.px[i], app.py[i])) found.push(i);
  }
  return found;
}
