// Cells of an image filled in a picture of it, pixel by pixel: there may be thousands.
import { blend } from "./stamp.js";

const PIXEL = { offset: Int32Array.of(0), cover: Int32Array.of(256) };

// From which pixel of a picture to which a cell reaches; with a `dot` (pixels) only so far from its middle.
export function extent(place, size, dot) {
  if (!dot) return [Math.round(place * size), Math.round((place + 1) * size)];
  const middle = (place + 0.5) * size;
  const first = Math.round(middle - dot);
  return [first, first + Math.max(1, Math.round(2 * dot))];
}

// Blends colourOf(row) into the cells of some points; `size` is a cell's width and height in pixels of the
// picture, `strength` is 0 to 256.
export function fillCells(pen, points, rows, size, colourOf, strength, dot = 0) {
  if (!rows.length) return;
  const image = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height);
  const buffer = new Uint32Array(image.data.buffer);
  for (const i of rows) {
    const rgb = colourOf(i);
    const [left, right] = extent(points.col[i], size[0], dot);
    const [top, bottom] = extent(points.row[i], size[1], dot);
    for (let y = Math.max(0, top); y < Math.min(bottom, image.height); y++) {
      for (let x = Math.max(0, left); x < Math.min(right, image.width); x++) {
        blend(buffer, y * image.width + x, PIXEL, rgb, strength);
      }
    }
  }
  pen.putImageData(image, 0, 0);
}
