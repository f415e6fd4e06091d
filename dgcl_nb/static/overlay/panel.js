// One panel: the picture of a layer with hatching, rings and crosshair.
import { hiDpi } from "../front/draw.js";
import { compose, hider } from "./compose.js";
import { drawHatch, scratch } from "./hatch.js";
import { drawCross, drawMarks } from "./marks.js";
import { droppedReader, insideReader } from "./readers.js";

const SIDE = 320; // CSS pixels, of the longer side

// All but rings and crosshair, at the screen's resolution.
function paintBase(maps, place, layer, options, size) {
  const isHidden = hider(maps, place, options.thresholdOf, ...options.bounds);
  const picture = new ImageData(maps.width, maps.height);
  compose(picture.data, maps, place, layer, options.alpha, isHidden);
  const small = scratch(maps.width, maps.height);
  small.getContext("2d").putImageData(picture, 0, 0);
  const base = scratch(...size);
  const context = base.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, ...size);
  if (layer === "pseudo_label" && options.alpha > 0) {
    const isDropped = droppedReader(maps, place);
    context.globalAlpha = Math.sqrt(options.alpha);
    const isInside = insideReader(maps, place);
    const isHatched = (pixel) => isInside(pixel) && isDropped(pixel) && !isHidden(pixel);
    drawHatch(context, maps, isHatched, window.devicePixelRatio || 1);
  }
  return base;
}

// A whole factor where the image fits, so that all pixels are of one size.
function zoomOf(maps) {
  const fit = SIDE / Math.max(maps.height, maps.width);
  return fit < 1 ? fit : Math.floor(fit);
}

// Draws the panel; the base is kept until something changes it, so that moving the mouse costs little.
// Returns whether it was painted anew.
export function drawPanel(panel, maps, place, layer, options) {
  const { canvas } = panel;
  const scale = zoomOf(maps);
  const ratio = hiDpi(canvas, maps.width * scale, maps.height * scale);
  const size = [canvas.width, canvas.height];
  const { alpha, thresholdOf, bounds } = options;
  const state = JSON.stringify([place, layer, alpha, thresholdOf, bounds.map(String), size]);
  const isNew = panel.drawnFrom !== maps || panel.drawn !== state;
  if (isNew) {
    panel.base = paintBase(maps, place, layer, options, size);
    panel.drawn = state;
    panel.drawnFrom = maps;
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, ...size); // beyond a small image the base is transparent
  context.drawImage(panel.base, 0, 0);
  drawMarks(context, maps, place.image, options.marks, ratio);
  if (options.pixel !== null) drawCross(context, maps, options.pixel, ratio);
  return isNew;
}
