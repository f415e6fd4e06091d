// Thumbnails, and a crop with its cell framed.
import { hiDpi } from "../front/draw.js";
import { make } from "../front/elements.js";

// Image number m as a canvas, made when it is first asked for; null where there is none.
export function pictureOf(scene, m) {
  const [height, width] = scene.thumb_size;
  const size = height * width;
  if (m < 0 || !size || (m + 1) * size * 3 > scene.thumbs.length) return null;
  if (scene.pictures[m]) return scene.pictures[m];
  const canvas = make("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const first = m * size * 3;
  image.data.fill(255);
  for (let p = 0; p < size; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = scene.thumbs[first + 3 * p + c];
  }
  pen.putImageData(image, 0, 0);
  scene.pictures[m] = canvas;
  return canvas;
}

// Whether cells are large enough for a frame that leaves their colour to be seen (CSS pixels).
export function isFramed(cellWidth, cellHeight) {
  return Math.min(cellWidth, cellHeight) >= 4;
}

// A rectangle that is visible on any ground: a line with a dark line around it.
export function frame(pen, x, y, width, height, line = 1.5) {
  pen.lineWidth = line + 2;
  pen.strokeStyle = "rgba(0,0,0,.8)";
  pen.strokeRect(x, y, width, height);
  pen.lineWidth = line;
  pen.strokeStyle = "#fff";
  pen.strokeRect(x, y, width, height);
}

// The square around a cell that a crop shows, kept inside the image: at least nine cells and 24 pixels.
function cropAround(scene, row, col) {
  const [height, width] = scene.thumb_size;
  const [cellHeight, cellWidth] = [height / scene.grid[0], width / scene.grid[1]];
  const side = Math.min(height, width, Math.max(9 * cellHeight, 9 * cellWidth, 24));
  const inside = (middle, length) => Math.min(Math.max(middle - side / 2, 0), length - side);
  const x = inside((col + 0.5) * cellWidth, width);
  const y = inside((row + 0.5) * cellHeight, height);
  return { x, y, side, cellWidth, cellHeight };
}

// Draws the surroundings of point i, enlarged without smoothing; false where its image is not there.
export function drawCrop(canvas, scene, points, i, side) {
  const ratio = hiDpi(canvas, side, side);
  const pen = canvas.getContext("2d");
  const picture = pictureOf(scene, points.image[i]);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, side, side);
  if (!picture || !scene.grid[0]) return false;
  const [row, col] = [points.row[i], points.col[i]];
  const crop = cropAround(scene, row, col);
  const zoom = side / crop.side;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, crop.x, crop.y, crop.side, crop.side, 0, 0, side, side);
  const [x, y] = [(col * crop.cellWidth - crop.x) * zoom, (row * crop.cellHeight - crop.y) * zoom];
  frame(pen, x, y, crop.cellWidth * zoom, crop.cellHeight * zoom);
  return true;
}
