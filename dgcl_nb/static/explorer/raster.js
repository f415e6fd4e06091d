// Points drawn into a buffer of packed pixels, a stamp each.
import { contrast } from "../front/colours.js";
import { drawnGroups } from "./order.js";
import { MANY } from "./scene.js";
import { blend, makeStamp, packed } from "./stamp.js";

// The rims of points on a light ground, and on a dark one: those that need a rim there are dark themselves.
const RIMS = [[128, 128, 128], [200, 205, 212]];

// The rim that is seen best on a ground.
export function rimOn(ground) {
  return contrast(RIMS[0], ground) > contrast(RIMS[1], ground) ? RIMS[0] : RIMS[1];
}

// What draws a point of a paint around a place of the buffer: a disc, and a rim where its colour is too near
// to the ground's.
function pointDrawer(buffer, width, { table, needsRim, rimColour }, { radius, rim, speck }) {
  const disc = makeStamp(radius, width);
  const ring = makeStamp(radius + rim / 2, width, rim);
  return {
    disc(place, paint, strength) {
      blend(buffer, place, disc, speck || table[paint], strength);
    },
    rim(place, paint, strength) {
      if (!speck && needsRim[paint]) blend(buffer, place, ring, rimColour, strength);
    }
  };
}

// The place in the buffer of each point that is `edge` pixels or more inside the picture, -1 of others; kept
// as long as no point moves.
function placesOf(app, n, { width, height }, edge) {
  const { px, py, ratio, placed } = app;
  const known = app.places;
  if (known && known.placed === placed && known.edge === edge && known.width === width) return known.places;
  const places = new Int32Array(n);
  for (let i = 0; i < n; i++) {
    const x = Math.floor(px[i] * ratio + 0.5);
    const y = Math.floor(py[i] * ratio + 0.5);
    const fits = x >= edge && y >= edge && x < width - edge && y < height - edge;
    places[i] = fits ? y * width + x : -1;
  }
  app.places = { placed, edge, width, places };
  return places;
}

// One after the other.
function drawEach({ rows, places, paint, fade }, [, first, end], strength, draw) {
  for (let j = first; j < end; j++) {
    const i = rows[j];
    if (places[i] < 0) continue;
    const full = fade ? Math.trunc(strength * fade[i]) : strength;
    draw.disc(places[i], paint[i], full);
    draw.rim(places[i], paint[i], full);
  }
}

// Of many points most lie on others: of those in one pixel only the last is drawn. Rims go below all discs:
// they would hide a crowd, and are needed at its edge.
function drawTopmost({ rows, places, paint, size }, [, first, end], strength, draw) {
  const top = new Uint16Array(size); // a paint and 1; 0: nobody
  for (let j = first; j < end; j++) {
    const i = rows[j];
    if (places[i] >= 0) top[places[i]] = paint[i] + 1;
  }
  for (const part of [draw.rim, draw.disc]) {
    for (let place = 0; place < size; place++) {
      if (top[place]) part(place, top[place] - 1, strength);
    }
  }
}

// `style` says of each group its radius, its rim (pixels), its strength (0 to 256) and, for specks, a colour.
export function drawRaster(app, image, { rows, start }, colours, style) {
  const buffer = new Uint32Array(image.data.buffer);
  buffer.fill(packed(app.ground));
  const drawAll = rows.length > MANY ? drawTopmost : drawEach;
  const edge = Math.ceil(style.plain.radius + style.plain.rim / 2); // of the largest stamp
  const places = placesOf(app, rows.length, image, edge);
  const points = { rows, places, paint: colours.paint, fade: app.fade, size: buffer.length };
  const inks = { ...colours, rimColour: rimOn(app.ground) };
  for (const group of drawnGroups(app, start)) {
    const own = style[group[0]];
    drawAll(points, group, own.strength, pointDrawer(buffer, image.width, inks, own));
  }
}
