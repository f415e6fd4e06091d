// Which cells of an image lie in a region that was drawn on it. Places are in cells: the middle of the
// cell in row r and column c is (c + 0.5, r + 0.5).

// The rows of the points of each image; made when first asked for.
export function pointsOfImages(points) {
  if (!points.perImage) {
    points.perImage = new Map();
    for (let i = 0; i < points.n; i++) {
      const m = points.image[i];
      if (m < 0) continue;
      if (points.perImage.has(m)) points.perImage.get(m).push(i);
      else points.perImage.set(m, [i]);
    }
  }
  return points.perImage;
}

export function pointsOfImage(points, m) {
  return pointsOfImages(points).get(m) || [];
}

// How far a place is from the line between two others.
function distanceToLine([x, y], [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  const share = length ? ((x - x0) * dx + (y - y0) * dy) / length : 0;
  const t = Math.min(Math.max(share, 0), 1);
  return Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
}

// A box reaches from corner to corner; whoever draws it touches a cell.
export function inBox([[x0, y0], [x1, y1]]) {
  const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)];
  const [top, bottom] = [Math.min(y0, y1), Math.max(y0, y1)];
  return (row, col) => col + 1 > left && col < right && row + 1 > top && row < bottom;
}

// A brush touches the cells whose middle is within its radius of the way it went.
export function underBrush(path, radius) {
  return (row, col) => {
    const middle = [col + 0.5, row + 0.5];
    return path.some((place, j) => distanceToLine(middle, path[Math.max(0, j - 1)], place) <= radius);
  };
}

// The shown points of an image for whose cell a function says yes.
export function pointsInside(points, m, isWanted) {
  return pointsOfImage(points, m).filter((i) => points.shown[i] && isWanted(points.row[i], points.col[i]));
}

// The shown point of an image that is nearest to a place, or -1 if none is within `reach` cells.
export function pointNear(points, m, [x, y], reach = 1) {
  let [best, least] = [-1, reach];
  for (const i of pointsOfImage(points, m)) {
    if (!points.shown[i]) continue;
    const distance = Math.hypot(points.col[i] + 0.5 - x, points.row[i] + 0.5 - y);
    if (distance > least) continue;
    [best, least] = [i, distance];
  }
  return best;
}
