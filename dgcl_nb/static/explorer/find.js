// The point at a place, and the next one in a direction. The picture is divided into squares and the
// points are sorted by square, so that a move of the mouse asks the points of nine squares only.

// CSS pixels a side.
export const SQUARE = 16;

// The square that each shown point lies in, -1 if it lies outside the picture.
function squareOf(app, points, columns) {
  const { px, py, width, height } = app;
  const square = new Int32Array(points.n).fill(-1);
  for (let i = 0; i < points.n; i++) {
    const x = px[i];
    const y = py[i];
    if (!points.shown[i] || x < 0 || y < 0 || x >= width || y >= height) continue;
    square[i] = Math.floor(y / SQUARE) * columns + Math.floor(x / SQUARE);
  }
  return square;
}

// A counting sort: the members of square q are members[start[q]] to members[start[q + 1] - 1].
export function makeIndex(app, points) {
  const columns = Math.ceil(app.width / SQUARE) + 1;
  const rows = Math.ceil(app.height / SQUARE) + 1;
  const start = new Uint32Array(columns * rows + 1);
  const square = squareOf(app, points, columns);
  for (const q of square) {
    if (q >= 0) start[q + 1]++;
  }
  for (let q = 0; q < columns * rows; q++) start[q + 1] += start[q];
  const next = start.slice();
  const members = new Uint32Array(start[columns * rows]);
  for (let i = 0; i < points.n; i++) {
    if (square[i] >= 0) members[next[square[i]]++] = i;
  }
  return { columns, rows, start, members };
}

// The nearest point of a square that is not farther than `best` (a row and a squared distance).
function nearestOf(app, { start, members }, square, x, y, best) {
  for (let j = start[square]; j < start[square + 1]; j++) {
    const i = members[j];
    const distance = (app.px[i] - x) ** 2 + (app.py[i] - y) ** 2;
    if (distance <= best.distance) Object.assign(best, { row: i, distance });
  }
}

// The shown point nearest to a place (CSS pixels), or -1 if none is in reach.
export function pointAt(app, points, x, y, reach = 12) {
  app.index = app.index || makeIndex(app, points);
  const { columns, rows } = app.index;
  const column = Math.floor(x / SQUARE);
  const row = Math.floor(y / SQUARE);
  const best = { row: -1, distance: reach * reach };
  for (let q = Math.max(0, row - 1); q <= Math.min(rows - 1, row + 1); q++) {
    for (let p = Math.max(0, column - 1); p <= Math.min(columns - 1, column + 1); p++) {
      nearestOf(app, app.index, q * columns + p, x, y, best);
    }
  }
  return best.row;
}

// The shown point next to point i (-1: next to the middle) in a direction, (1, 0) being to the right;
// what lies aside costs twice. -1 if there is none.
export function pointTowards(app, points, i, dx, dy) {
  const { px, py } = app;
  const [x0, y0] = i < 0 ? [app.width / 2, app.height / 2] : [px[i], py[i]];
  let best = -1;
  let least = Infinity;
  for (let j = 0; j < points.n; j++) {
    const [x, y] = [px[j] - x0, py[j] - y0];
    const ahead = x * dx + y * dy;
    const aside = Math.abs(x * dy) + Math.abs(y * dx);
    const cost = ahead + 2 * aside;
    if (!points.shown[j] || j === i || ahead <= 0.5 || cost >= least) continue;
    least = cost;
    best = j;
  }
  return best;
}
