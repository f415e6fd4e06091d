// All points in one picture.
import { contrast } from "../front/colours.js";
import { paintOf } from "./paint.js";
import { blend, makeStamp, packed } from "./stamp.js";

const GREY_RIM = [128, 128, 128];
const GREY_SPECK = [140, 140, 140];

// CSS pixels: smaller where there are many, a little larger when zoomed in.
export function pointRadius(n, zoom) {
  const sizes = [[1000, 4.2], [4000, 3.4], [12000, 2.6], [Infinity, 1.8]];
  const radius = sizes.find(([most]) => n <= most)[1];
  return radius * Math.min(2, zoom ** 0.35);
}

// Where each point lies in the picture (CSS pixels from the upper left): app.px, app.py.
export function placePoints(app, points) {
  const { view, pos, width, height } = app;
  if (app.px.length !== points.n) {
    app.px = new Float32Array(points.n);
    app.py = new Float32Array(points.n);
  }
  const { px, py } = app;
  for (let i = 0; i < points.n; i++) {
    px[i] = (pos[2 * i] - view.x) * view.scale + width / 2;
    py[i] = height / 2 - (pos[2 * i + 1] - view.y) * view.scale;
  }
  app.index = null; // of find.js: holds no longer
}

// The picture's memory; kept from one drawing to the next.
function imageOf(app) {
  const { width, height } = app.canvas;
  const { image } = app;
  const fits = image && image.width === width && image.height === height;
  if (!fits) app.image = app.pen.createImageData(width, height);
  return app.image;
}

// Calls draw(place in the buffer, row) for each wanted point whose stamp lies wholly in the picture.
function eachPlace(app, n, edge, isWanted, draw) {
  const { px, py, ratio } = app;
  const { width, height } = app.canvas;
  for (let i = 0; i < n; i++) {
    if (!isWanted(i)) continue;
    const x = Math.round(px[i] * ratio);
    const y = Math.round(py[i] * ratio);
    const fits = x >= edge && y >= edge && x < width - edge && y < height - edge;
    if (fits) draw(y * width + x, i);
  }
}

// What must not be hidden is drawn last: selected points and, where colours show it, wrong ones.
function latePoints(app, points) {
  const { dim } = app;
  if (app.by === "change") return (i) => [1, 2].includes(points.change[i]) && !(dim && dim[i]);
  if (app.by === "right") return (i) => points.right[i] === 0 && !(dim && dim[i]);
  return dim ? (i) => !dim[i] : () => false;
}

// A point: a disc, and a rim where its colour is too near to the background's.
function pointDrawer(app, points, buffer, radius) {
  const { table, dim, fade, ratio, ground } = app;
  const { width } = app.canvas;
  const paint = paintOf(app.scene, points, app.by);
  const disc = makeStamp(radius, width);
  const rim = makeStamp(radius + 0.5 * ratio, width, ratio);
  const needsRim = table.map((rgb) => contrast(rgb, ground) < 1.7);
  return (place, i) => {
    const full = dim && dim[i] ? 60 : 225;
    const strength = Math.trunc(full * (fade ? fade[i] : 1));
    blend(buffer, place, disc, table[paint[i]], strength);
    if (needsRim[paint[i]]) blend(buffer, place, rim, GREY_RIM, strength);
  };
}

export function drawPoints(app, points) {
  const { ratio } = app;
  const { shown, n } = points;
  const image = imageOf(app);
  const buffer = new Uint32Array(image.data.buffer);
  buffer.fill(packed(app.ground));
  const radius = pointRadius(n, app.view.zoom) * ratio;
  const edge = Math.ceil(radius + 0.5 * ratio);
  if (app.ghosts) {
    const speck = makeStamp(Math.max(1, radius * 0.45), image.width);
    const drawSpeck = (place) => blend(buffer, place, speck, GREY_SPECK, 90);
    eachPlace(app, n, edge, (i) => !shown[i], drawSpeck);
  }
  const isLate = latePoints(app, points);
  const draw = pointDrawer(app, points, buffer, radius);
  eachPlace(app, n, edge, (i) => shown[i] && !isLate(i), draw);
  eachPlace(app, n, edge, (i) => shown[i] && isLate(i), draw);
  app.pen.putImageData(image, 0, 0);
}
