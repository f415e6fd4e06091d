// Selected pixels marked in their images.
import { hiDpi } from "../front/draw.js";
import { make } from "../front/elements.js";
import { fillCells } from "./cells.js";
import { paintOf } from "./paint.js";
import { frame, isFramed, pictureOf } from "./thumbs.js";

const MOST_IMAGES = 16;
const SIDE = 116; // CSS pixels, of the longer side

// { order: pairs of image and its selected rows, those with most rows first; lost: rows without image }
export function rowsByImage(points, selected) {
  const perImage = new Map();
  let lost = 0;
  for (const i of selected) {
    const m = points.image[i];
    if (m < 0) lost++;
    else if (perImage.has(m)) perImage.get(m).push(i);
    else perImage.set(m, [i]);
  }
  const order = [...perImage].sort((a, b) => b[1].length - a[1].length);
  return { order, lost };
}

// An image with each selected cell framed and filled with the colour that its point has.
function markedImage(app, points, m, rows, picture) {
  const { scene, table } = app;
  const zoom = SIDE / Math.max(...scene.thumb_size);
  const [height, width] = scene.thumb_size.map((length) => length * zoom);
  const [cellHeight, cellWidth] = [height / scene.grid[0], width / scene.grid[1]];
  const canvas = make("canvas");
  const ratio = hiDpi(canvas, width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const paint = paintOf(scene, points, app.by);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${scene.image_ids[m]} with ${rows.length} selected cells`);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, 0, 0, width, height);
  const size = [cellWidth * ratio, cellHeight * ratio];
  fillCells(pen, points, rows, size, (i) => table[paint[i]], 192);
  if (!isFramed(cellWidth, cellHeight)) return canvas;
  for (const i of rows) {
    const [x, y] = [points.col[i] * cellWidth, points.row[i] * cellHeight];
    frame(pen, x + 0.5, y + 0.5, cellWidth - 1, cellHeight - 1, 1);
  }
  return canvas;
}

function noteOf(order, lost) {
  const rest = [];
  if (order.length > MOST_IMAGES) rest.push(`${order.length - MOST_IMAGES} more images are not drawn`);
  if (lost) rest.push(`${lost} cells lie in images that the snapshot did not keep`);
  const inside = rest.length ? ` (${rest.join("; ")})` : "";
  return make("p", "dgcl-note", `The selected cells in their images${inside}:`);
}

export function showStrip(app, points) {
  const { scene, strip, selected } = app;
  strip.replaceChildren();
  strip.hidden = !selected.size;
  if (!selected.size) return;
  const { order, lost } = rowsByImage(points, selected);
  const pictures = make("div", "dgcl-pictures");
  strip.append(noteOf(order, lost), pictures);
  for (const [m, rows] of order.slice(0, MOST_IMAGES)) {
    const figure = make("figure");
    const picture = pictureOf(scene, m);
    if (picture && scene.grid[0]) figure.append(markedImage(app, points, m, rows, picture));
    figure.append(make("figcaption", "dgcl-note", `${scene.image_ids[m]}: ${rows.length}`));
    pictures.append(figure);
  }
}
