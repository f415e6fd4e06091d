// All points in one picture.
import { contrast } from "../front/colours.js";
import { GROUPS, orderPoints } from "./order.js";
import { paintOf } from "./paint.js";
import { drawRaster } from "./raster.js";
import { MANY } from "./scene.js";

const GREY_SPECK = [140, 140, 140];
const STRENGTH = { hidden: 90, pale: 60, plain: 225, late: 225 }; // of 256
const PALE_CROWD = 24; // many pale points lie on each other, and together they would be strong again

// CSS pixels: smaller where there are many, a little larger when zoomed in.
export function pointRadius(n, zoom) {
  const sizes = [[1000, 4.2], [4000, 3.4], [12000, 2.6], [100000, 1.8], [Infinity, 1.2]];
  const radius = sizes.find(([most]) => n <= most)[1];
  return radius * Math.min(2, zoom ** 0.35);
}

// Whether points lie where they lay at the last drawing; app.placed is another object where not.
function isPlaced(app, n) {
  const { pos, view, width, height } = app;
  const now = [pos, n, view.x, view.y, view.scale, width, height];
  const isSame = now.every((value, j) => value === app.placed?.[j]);
  if (!isSame) app.placed = now;
  return isSame;
}

// Where each point lies in the picture (CSS pixels from the upper left): app.px, app.py.
export function placePoints(app, points) {
  app.index = null; // of find.js: holds no longer
  if (isPlaced(app, points.n)) return;
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
}

// The picture's memory; kept from one drawing to the next.
function imageOf(app) {
  const { width, height } = app.canvas;
  const { image } = app;
  const fits = image && image.width === width && image.height === height;
  if (!fits) app.image = app.pen.createImageData(width, height);
  return app.image;
}

// How each group of n points is drawn, in pixels of the picture. Points for which others step back are as
// large as they would be alone: a few among many could not be found.
export function styleOf(app, n, { start }) {
  const sizeOf = (count) => pointRadius(count, app.view.zoom) * app.ratio;
  const radius = sizeOf(n);
  const alone = app.dim ? sizeOf(start[GROUPS.length] - start[GROUPS.indexOf("plain")]) : radius;
  const rim = app.ratio;
  const pale = n > MANY ? PALE_CROWD : STRENGTH.pale;
  return {
    hidden: { radius: Math.max(1, radius * 0.45), rim: 0, strength: STRENGTH.hidden, speck: GREY_SPECK },
    pale: { radius, rim, strength: pale },
    plain: { radius: alone, rim, strength: STRENGTH.plain },
    late: { radius: alone, rim, strength: STRENGTH.late }
  };
}

export function drawPoints(app, points) {
  const paint = paintOf(app.scene, points, app.by);
  const { table, ground } = app;
  const needsRim = table.map((rgb) => contrast(rgb, ground) < 1.7);
  const image = imageOf(app);
  const order = orderPoints(app, points, paint);
  drawRaster(app, image, order, { paint, table, needsRim }, styleOf(app, points.n, order));
  app.pen.putImageData(image, 0, 0);
}
