// All points inside a line.

// Whether a ray from (x, y) to the right crosses the side from (x0, y0) to (x1, y1).
function crosses(x, y, x0, y0, x1, y1) {
  return y1 > y !== y0 > y && x < x1 + ((y - y1) * (x0 - x1)) / (y0 - y1);
}

// The sides of a closed line of [x, y], four numbers each: from where to where.
function sidesOf(path) {
  return path.map(([x, y], j) => [...path[j ? j - 1 : path.length - 1], x, y]);
}

// Whether a place lies inside a closed line: a ray to the right crosses it an odd number of times. What a
// line goes around twice is outside.
function isBetween(sides, x, y) {
  let odd = false;
  for (let j = 0; j < sides.length; j++) {
    const side = sides[j];
    if (crosses(x, y, side[0], side[1], side[2], side[3])) odd = !odd;
  }
  return odd;
}

export function isInside(path, x, y) {
  return isBetween(sidesOf(path), x, y);
}

// The sides that touch each row of pixels from `top` on: those that a ray within that row may cross.
function sidesByRow(sides, top, bottom) {
  const found = Array.from({ length: bottom - top + 1 }, () => []);
  for (const side of sides) {
    const [first, last] = [Math.min(side[1], side[3]), Math.max(side[1], side[3])];
    for (let row = Math.floor(first); row <= last; row++) found[row - top].push(side);
  }
  return found;
}

// The rows of the shown points inside a line (CSS pixels).
export function insideOf(app, points, path) {
  const found = [];
  if (!path.length) return found;
  const { px, py } = app;
  const heights = path.map(([, y]) => y);
  const [top, bottom] = [Math.floor(Math.min(...heights)), Math.floor(Math.max(...heights))];
  const near = sidesByRow(sidesOf(path), top, bottom);
  for (let i = 0; i < points.n; i++) {
    if (!points.shown[i]) continue;
    const sides = near[Math.floor(py[i]) - top];
    if (sides && isBetween(sides, px[i], py[i])) found.push(i);
  }
  return found;
}
