// Hatching over the pixels that a function names.
import { numPixels } from "./readers.js";

// A canvas that is never on view.
export function scratch(width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  return canvas;
}

// Diagonals, white with a dark edge: visible on any ground.
function hatchPattern(context, ratio) {
  const side = Math.round(7 * ratio);
  const tile = scratch(side, side);
  const pen = tile.getContext("2d");
  const lines = [["rgba(0,0,0,.75)", 2.6 * ratio], ["rgba(255,255,255,.95)", 1.2 * ratio]];
  for (const [colour, width] of lines) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    for (const shift of [-side, 0, side]) {
      pen.moveTo(shift - 2, side + 2);
      pen.lineTo(shift + side + 2, -2);
    }
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}

export function drawHatch(context, maps, isHatched, ratio) {
  const { width, height } = context.canvas;
  const small = scratch(maps.width, maps.height);
  const mask = new ImageData(maps.width, maps.height);
  for (let pixel = 0; pixel < numPixels(maps); pixel++) {
    mask.data[4 * pixel + 3] = isHatched(pixel) ? 255 : 0;
  }
  small.getContext("2d").putImageData(mask, 0, 0);
  const full = scratch(width, height);
  const pen = full.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, width, height);
  pen.globalCompositeOperation = "source-in"; // the pattern, where the mask is
  pen.fillStyle = hatchPattern(pen, ratio);
  pen.fillRect(0, 0, width, height);
  context.drawImage(full, 0, 0);
}
